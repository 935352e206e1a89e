import CLinux
import Glibc
import Linux

/// An instance that runs, held by its first process: the number cannot be given to another one any more.
struct InstanceProcess: ~Copyable {
    let record: InstanceRecord
    private let process: OwnedDescriptor

    init(_ record: InstanceRecord, uid: UInt32) throws(RuntimeError) {
        self.record = record
        process = OwnedDescriptor(clinux_pidfd_open(record.pid))
        guard process.rawValue >= 0, record.isAlive, let status = Files.status("/proc/\(record.pid)") else {
            throw RuntimeError.badOption("the instance \(record.name) has ended")
        }
        guard status.st_uid == uid || uid == 0 else {
            throw RuntimeError.badOption("the instance \(record.name) belongs to another user")
        }
    }

    /// Those of its namespaces that this process is not in.
    func namespaces(of kinds: Namespaces) -> Namespaces {
        var namespaces: Namespaces = []
        for (one, name) in [
            (Namespaces.user, "user"), (.mount, "mnt"), (.pid, "pid"), (.ipc, "ipc"), (.uts, "uts"), (.network, "net"),
        ] where kinds.contains(one) && Files.readLink("/proc/\(record.pid)/ns/\(name)") != Files.readLink("/proc/self/ns/\(name)") {
            namespaces.insert(one)
        }
        return namespaces
    }

    /// Moves this process into namespaces of the instance.
    func join(_ namespaces: Namespaces) throws(RuntimeError) {
        guard !namespaces.isEmpty else { return }
        // What is in the container must not look into this process until it is one of its programs.
        Process.forbidInspection()
        guard clinux_setns(process.rawValue, CInt(truncatingIfNeeded: namespaces.rawValue)) == 0 else {
            throw RuntimeError.step("joining the instance \(record.name)", SystemError.last("setns"), hint: "")
        }
    }
}
