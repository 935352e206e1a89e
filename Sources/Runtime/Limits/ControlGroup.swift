import CLinux
import Glibc
import Linux
import Messages

/// The control group of one container, see cgroups(7): limits are written to it, and what the container takes can be read
/// from it. Made before the container, and removed by the supervisor.
package struct ControlGroup {
    /// Directories of the group: one in cgroup v2, one for each controller in cgroup v1.
    private let folders: [String]
    /// A directory that was made around it, to be removed as well.
    private let around: [String]

    /// The group's directory, the one of the memory controller in cgroup v1.
    var path: String { folders.first { $0.contains("/memory/") } ?? folders.first ?? "" }

    /// Makes a group with limits.
    /// - Returns: nil where none is wanted; for an instance also where none can be had.
    static func prepare(
        _ limits: ResourceLimits, _ configuration: Configuration, isInstance: Bool, _ log: Log
    ) throws(RuntimeError) -> ControlGroup? {
        guard !limits.isEmpty || isInstance else { return nil }
        let name = "singularity-\(getpid())"
        do throws(RuntimeError) {
            if let root = Hierarchy.unified, root.has("memory") || !Hierarchy.hasVersion1 {
                return try version2(root, name, limits, configuration, log)
            }
            guard getuid() == 0 else {
                throw .badOption(
                    "this host has cgroup v1, which lets ordinary users set no limits; an administrator can boot with systemd.unified_cgroup_hierarchy=1"
                )
            }
            return try version1(name, limits)
        } catch {
            if limits.isEmpty {
                log.verbose("no control group: \(error)")
                return nil
            }
            throw .badOption("limits cannot be set: \(error)")
        }
    }

    /// Puts this process into the group.
    func join() throws(SystemError) {
        for folder in folders { try Self.write("0", folder + "/cgroup.procs") }
    }

    /// Removes the group. What the program has left in the background keeps it, and a small process that waits for that.
    func remove() {
        if tryRemove(times: 10, microseconds: 2000) { return }
        _ = try? Process.fork {
            guard clinux_fork() == 0 else { _exit(0) }
            setsid()
            Process.setName("singularity-own")
            Process.closeDescriptors(except: [])
            while !tryRemove(times: 1, microseconds: 200_000) {}
            _exit(0)
        }
    }

    private func tryRemove(times: Int, microseconds: UInt32) -> Bool {
        var left = (folders + around).filter { Files.status($0) != nil }
        for _ in 0..<times {
            // The kernel may take a moment to forget the last process. What is around it may have other groups in it.
            left.removeAll { rmdir($0) == 0 || errno == ENOENT || around.contains($0) }
            if left.isEmpty { return true }
            usleep(microseconds)
        }
        return false
    }

    static func write(_ text: String, _ path: String) throws(SystemError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY)
        try Files.writeAll(Array(text.utf8), to: file.rawValue, name: path)
    }

    private static func set(_ text: String, _ path: String, _ what: String) throws(RuntimeError) {
        do throws(SystemError) { try write(text, path) } catch {
            throw .badOption("\(what): the kernel refuses \(text) in \(path): \(error.reason)")
        }
    }

    // MARK: Version 2

    private static func version2(
        _ root: Hierarchy.Unified, _ name: String, _ limits: ResourceLimits, _ configuration: Configuration, _ log: Log
    ) throws(RuntimeError) -> ControlGroup {
        var around: [String] = []
        var parent = root.mount
        if getuid() != 0 || !root.isWritable {
            guard let own = try UserScope.delegated(root, configuration, log) else {
                throw .badOption(
                    "the host has delegated no control group to this user; log in through systemd (a user session with a D-Bus address), or run the command with `systemd-run --user --scope -p Delegate=yes`"
                )
            }
            parent = own
        } else {
            parent = root.mount + "/singularity"
            if mkdir(parent, 0o755) == 0 { around = [parent] }
        }
        let needed = neededControllers(limits)
        enable(needed, in: parent, root: root.mount)
        let folder = parent + "/" + name
        guard mkdir(folder, 0o755) == 0 || errno == EEXIST else {
            throw .badOption("\(SystemError.last("mkdir \(folder)"))")
        }
        let group = ControlGroup(folders: [folder], around: around)
        do throws(RuntimeError) {
            try apply2(limits, folder)
        } catch {
            group.remove()
            throw error
        }
        return group
    }

    /// Lets the children of a group have controllers; those above it too, as far as that is possible.
    private static func enable(_ controllers: [String], in folder: String, root: String) {
        var path = root
        var steps = [root]
        for part in folder.dropFirst(root.count).split(separator: "/") {
            path += "/" + part
            steps.append(path)
        }
        for step in steps { for controller in controllers { try? write("+\(controller)", step + "/cgroup.subtree_control") } }
    }

    private static func neededControllers(_ limits: ResourceLimits) -> [String] {
        var out = ["cpu", "memory", "pids"]
        if limits.cpusetCPUs != nil || limits.cpusetNodes != nil { out.append("cpuset") }
        if limits.blockWeight != nil || !limits.blockDeviceWeights.isEmpty { out.append("io") }
        return out
    }

    /// Writes limits to the files of a group of cgroup v2.
    package static func apply2(_ limits: ResourceLimits, _ folder: String) throws(RuntimeError) {
        func number(_ value: Int64) -> String { value < 0 ? "max" : String(value) }
        func put(_ text: String, _ file: String, _ what: String) throws(RuntimeError) {
            guard Files.status("\(folder)/\(file)") != nil else {
                throw .badOption("\(what): the controller of \(file) is not available in \(folder); the host has not delegated it")
            }
            try set(text, "\(folder)/\(file)", what)
        }
        if let shares = limits.cpuShares {
            // The kernel's documentation has no such table; runc's conversion is what people know.
            let clamped: UInt64 = max(2, min(shares, 262_144))
            let weight: UInt64 = 1 + (clamped - 2) * 9999 / 262_142
            try put(String(weight), "cpu.weight", "--cpu-shares")
        }
        if let cpus = limits.cpus { try put("\(Int64(cpus * 100_000)) 100000", "cpu.max", "--cpus") }
        if let text = limits.cpusetCPUs { try put(text, "cpuset.cpus", "--cpuset-cpus") }
        if let text = limits.cpusetNodes { try put(text, "cpuset.mems", "--cpuset-mems") }
        if let bytes = limits.memory { try put(number(bytes), "memory.max", "--memory") }
        if let bytes = limits.memoryReservation { try put(number(bytes), "memory.low", "--memory-reservation") }
        if let bytes = limits.memorySwap {
            if bytes >= 0, bytes < limits.memory ?? 0 {
                throw .badOption("--memory-swap: memory and swap together cannot be less than --memory")
            }
            try put(bytes < 0 ? "max" : String(bytes - (limits.memory ?? 0)), "memory.swap.max", "--memory-swap")
        }
        if limits.disablesOOMKiller { throw .badOption("--oom-kill-disable: cgroup v2 has no such thing") }
        if let count = limits.processes { try put(number(count), "pids.max", "--pids-limit") }
        if let weight = limits.blockWeight { try put("default \(weight * 10)", "io.weight", "--blkio-weight") }
        for (device, weight) in limits.blockDeviceWeights {
            try put("\(try numbers(device)) \(weight * 10)", "io.weight", "--blkio-weight-device")
        }
        for (file, value) in limits.unified {
            guard !file.contains("/") else { throw .badOption("[unified] \(file) is not the name of a file") }
            try put(value, file, "[unified]")
        }
    }

    private static func numbers(_ device: String) throws(RuntimeError) -> String {
        let parts = device.split(separator: ":")
        if parts.count == 2, UInt32(parts[0]) != nil, UInt32(parts[1]) != nil { return device }
        guard let status = Files.status(device), status.st_mode & S_IFMT == S_IFBLK else {
            throw .badOption("--blkio-weight-device \(device): it is no block device")
        }
        let raw = UInt64(status.st_rdev)
        let major: UInt64 = (raw >> 8) & 0xfff
        let minor: UInt64 = (raw & 0xff) | ((raw >> 12) & 0xfff00)
        return "\(major):\(minor)"
    }

    // MARK: Version 1

    private static func version1(_ name: String, _ limits: ResourceLimits) throws(RuntimeError) -> ControlGroup {
        var folders: [String] = []
        func folder(_ controller: String, _ what: String) throws(RuntimeError) -> String {
            guard let parent = Hierarchy.folder(ofController: controller) else {
                throw .badOption("\(what): this host has no controller \(controller)")
            }
            let path = parent + "/" + name
            if folders.contains(path) { return path }
            guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw .badOption("\(SystemError.last("mkdir \(path)"))") }
            folders.append(path)
            if controller == "cpuset" {
                // A new group has no processors; nothing could enter it.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if let text = try? Files.readText(parent + "/" + file) { try? write(text, path + "/" + file) }
                }
            }
            return path
        }
        func put(_ controller: String, _ file: String, _ text: String, _ what: String) throws(RuntimeError) {
            try set(text, try folder(controller, what) + "/" + file, what)
        }
        do throws(RuntimeError) {
            if limits.isEmpty { for controller in ["memory", "pids", "cpuacct"] { _ = try folder(controller, "an instance") } }
            if let shares = limits.cpuShares { try put("cpu", "cpu.shares", String(shares), "--cpu-shares") }
            if let cpus = limits.cpus {
                try put("cpu", "cpu.cfs_period_us", "100000", "--cpus")
                try put("cpu", "cpu.cfs_quota_us", String(Int64(cpus * 100_000)), "--cpus")
            }
            if let text = limits.cpusetCPUs { try put("cpuset", "cpuset.cpus", text, "--cpuset-cpus") }
            if let text = limits.cpusetNodes { try put("cpuset", "cpuset.mems", text, "--cpuset-mems") }
            if let bytes = limits.memory { try put("memory", "memory.limit_in_bytes", String(bytes), "--memory") }
            if let bytes = limits.memoryReservation {
                try put("memory", "memory.soft_limit_in_bytes", String(bytes), "--memory-reservation")
            }
            if let bytes = limits.memorySwap { try put("memory", "memory.memsw.limit_in_bytes", String(bytes), "--memory-swap") }
            if limits.disablesOOMKiller { try put("memory", "memory.oom_control", "1", "--oom-kill-disable") }
            if let count = limits.processes { try put("pids", "pids.max", count < 0 ? "max" : String(count), "--pids-limit") }
            if let weight = limits.blockWeight { try put("blkio", "blkio.weight", String(weight), "--blkio-weight") }
            for (device, weight) in limits.blockDeviceWeights {
                try put("blkio", "blkio.weight_device", "\(try numbers(device)) \(weight)", "--blkio-weight-device")
            }
            if !limits.unified.isEmpty { throw .badOption("[unified]: this host has cgroup v1") }
        } catch {
            ControlGroup(folders: folders, around: []).remove()
            throw error
        }
        return ControlGroup(folders: folders, around: [])
    }
}

/// Where the kernel's control groups are mounted.
enum Hierarchy {
    struct Unified {
        var mount: String
        /// This process's own group, below ``mount``.
        var own: String
        /// Where both versions are mounted, a controller is in one of them.
        func has(_ controller: String) -> Bool {
            ((try? Files.readText(mount + "/cgroup.controllers")) ?? "").split(whereSeparator: { $0 == " " || $0 == "\n" })
                .contains(Substring(controller))
        }
        var isWritable: Bool { access(mount, W_OK) == 0 && access(mount + "/cgroup.subtree_control", W_OK) == 0 }
    }

    private static func mounts(_ type: String) -> [(point: String, options: [String])] {
        guard let text = try? Files.readText("/proc/self/mounts") else { return [] }
        return text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            guard fields.count > 3, fields[2] == type else { return nil }
            return (OctalEscapes.decoded(String(fields[1])), fields[3].split(separator: ",").map(String.init))
        }
    }

    /// Paths of this process's groups, by hierarchy: the controllers' names, or nothing for cgroup v2.
    private static func groups() -> [(controllers: [String], path: String)] {
        guard let text = try? Files.readText("/proc/self/cgroup") else { return [] }
        return text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { return nil }
            return (fields[1].split(separator: ",").map(String.init), String(fields[2]))
        }
    }

    static var unified: Unified? {
        guard let mount = mounts("cgroup2").first?.point else { return nil }
        let own = groups().first { $0.controllers.isEmpty }?.path ?? "/"
        return Unified(mount: mount, own: own)
    }

    static var hasVersion1: Bool { !mounts("cgroup").isEmpty }

    /// This process's own group in the hierarchy of a controller of cgroup v1.
    static func folder(ofController name: String) -> String? {
        guard let mount = mounts("cgroup").first(where: { $0.options.contains(name) })?.point,
            let path = groups().first(where: { $0.controllers.contains(name) })?.path
        else { return nil }
        return path == "/" ? mount : mount + path
    }
}

/// A group that an ordinary user may divide.
enum UserScope {
    /// Its directory: one that was delegated, or a new scope of systemd's user manager.
    static func delegated(_ root: Hierarchy.Unified, _ configuration: Configuration, _ log: Log) throws(RuntimeError) -> String? {
        let own = root.mount + (root.own == "/" ? "" : root.own)
        if mayDivide(own), let folder = try? divide(own) { return folder }
        guard configuration.has("systemd cgroups"), let scope = startScope(root, log) else { return nil }
        do throws(SystemError) { return try divide(scope) } catch {
            throw .badOption("the scope of systemd could not be divided: \(error)")
        }
    }

    private static func mayDivide(_ folder: String) -> Bool {
        access(folder, W_OK) == 0 && access(folder + "/cgroup.procs", W_OK) == 0 && access(folder + "/cgroup.subtree_control", W_OK) == 0
    }

    /// Moves this process aside: a group with controllers for its children may have no processes of its own.
    private static func divide(_ folder: String) throws(SystemError) -> String {
        let aside = folder + "/supervisor"
        guard mkdir(aside, 0o755) == 0 || errno == EEXIST else { throw .last("mkdir \(aside)") }
        try ControlGroup.write("0", aside + "/cgroup.procs")
        return folder
    }

    /// Asks systemd's user manager for a scope with this process in it, by the program busctl.
    private static func startScope(_ root: Hierarchy.Unified, _ log: Log) -> String? {
        guard let busctl = SystemProgram.find("busctl"),
            Environment["DBUS_SESSION_BUS_ADDRESS"] != nil || Environment["XDG_RUNTIME_DIR"] != nil
        else { return nil }
        let name = "singularity-\(getpid()).scope"
        let words = [
            busctl, "--user", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
            "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", "3", "PIDs", "au", "1", String(getpid()), "Delegate", "b", "true",
            "Description", "s", "singularity container", "0",
        ]
        guard let result = try? ChildProcess.run(words, errors: .discarded), result.status == 0 else { return nil }
        for _ in 0..<200 {
            if let now = Hierarchy.unified, now.own.hasSuffix("/" + name) { return root.mount + now.own }
            usleep(10_000)
        }
        log.verbose("systemd has made no scope \(name)")
        return nil
    }
}
