import CLinux
import Glibc
import Linux

/// The last step before the program: everything that it shall not have is given up, and each loss is made sure of.
struct Rights {
    private let plan: LaunchPlan
    private let seccomp: SeccompProfile?
    private let label: LabelFile?

    init(_ plan: LaunchPlan, seccomp: SeccompProfile?, label: LabelFile?) {
        self.plan = plan
        self.seccomp = seccomp
        self.label = label
    }

    /// Ids and capabilities, of an init process as well as of the program.
    func apply() throws(RuntimeError) {
        do throws(SystemError) {
            if let (user, groups) = plan.runsAs {
                guard clinux_become(UInt32.max, groups[0], groups, groups.count) == 0 else { throw .last("take the groups of --security") }
                // Capabilities must survive the change of the user as far as they are wanted.
                guard clinux_keep_capabilities() == 0, clinux_become(user, UInt32.max, nil, 0) == 0 else {
                    throw .last("take the user of --security")
                }
                guard getuid() == user, geteuid() == user, getgid() == groups[0] else {
                    throw SystemError("become the user of --security", errno: EPERM)
                }
                // The effective set is emptied by the change; what follows needs it.
                guard clinux_restore_capabilities() == 0 else { throw .last("restore capabilities") }
            }
            if plan.forbidsNewPrivileges { try Process.forbidNewPrivileges() }
            try plan.capabilities.apply()
        } catch { throw .step("giving up rights", error, hint: "") }
    }

    /// Label and filter, which are the program's alone.
    func confine() throws(RuntimeError) {
        do throws(SystemError) {
            if let label { try label.write() }
            if let seccomp { try seccomp.install() }
        } catch { throw .step("confining the program (--security)", error, hint: "") }
    }
}

/// Takes the label of a Linux security module for the program that this process becomes.
///
/// It is written below the host's own /proc, which is made sure to be one, and which nothing of the image can cover
/// (CVE-2025-65105: a label that was written elsewhere).
struct LabelFile {
    private let processes: SharedDescriptor
    private let places: [String]
    private let text: String

    /// Opens /proc, while the host's is in reach.
    init(_ label: SecurityLabel) throws(RuntimeError) {
        switch label {
        case .apparmor(let profile):
            guard let enabled = try? Files.readText("/sys/module/apparmor/parameters/enabled"), enabled.hasPrefix("Y") else {
                throw .badOption("--security apparmor:\(profile): AppArmor is not enabled on this host")
            }
            text = "exec \(profile)"
            places = ["thread-self/attr/apparmor/exec", "thread-self/attr/exec"]
        case .selinux(let context):
            guard Files.status("/sys/fs/selinux/enforce") != nil else {
                throw .badOption("--security selinux:\(context): SELinux is not enabled on this host")
            }
            text = context
            places = ["thread-self/attr/exec"]
        }
        let folder = try? OwnedDescriptor.open("/proc", O_PATH_FLAG | O_DIRECTORY)
        guard let folder, Self.isProc(folder.rawValue) else {
            throw .badOption("--security: the label of the program cannot be set, as /proc is not the kernel's")
        }
        processes = SharedDescriptor(folder)
    }

    private static func isProc(_ descriptor: CInt) -> Bool {
        var system = statfs()
        // PROC_SUPER_MAGIC
        return fstatfs(descriptor, &system) == 0 && system.f_type == 0x9fa0
    }

    /// By the process that becomes the program.
    func write() throws(SystemError) {
        for place in places {
            guard let file = try? OwnedDescriptor.open(at: processes.rawValue, place, O_RDWR), Self.isProc(file.rawValue) else { continue }
            try Files.writeAll(Array(text.utf8), to: file.rawValue, name: "the security label")
            // A label that is not there after it was written is an error, not a detail.
            var room = [UInt8](repeating: 0, count: 4096)
            let count = pread(file.rawValue, &room, room.count, 0)
            let wanted = text.split(separator: " ").last.map(String.init) ?? text
            guard count > 0, String(decoding: room.prefix(count), as: UTF8.self).contains(wanted) else { break }
            return
        }
        throw SystemError("set the security label \(text)", errno: EACCES)
    }
}
