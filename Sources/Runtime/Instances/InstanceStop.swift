import CLinux
import Glibc
import Linux

/// The end of instances.
public enum InstanceStop {
    /// Sends a signal to the first process of an instance, and SIGKILL where it has not ended in time. The kernel then
    /// ends all that is in its PID namespace.
    /// - Parameters:
    ///   - seconds: until SIGKILL.
    /// - Returns: false where it is still there.
    public static func stop(_ record: InstanceRecord, signal: CInt, seconds: Int, in store: InstanceStore) -> Bool {
        let process = OwnedDescriptor(clinux_pidfd_open(record.pid))
        guard process.rawValue >= 0, record.isAlive, let status = Files.status("/proc/\(record.pid)"),
            status.st_uid == getuid() || getuid() == 0
        else {
            store.remove(record.name)
            return true
        }
        guard clinux_pidfd_send_signal(process.rawValue, signal) == 0 else { return false }
        var hasEnded = wait(process.rawValue, milliseconds: max(0, seconds) * 1000)
        if !hasEnded {
            _ = clinux_pidfd_send_signal(process.rawValue, SIGKILL)
            hasEnded = wait(process.rawValue, milliseconds: 5000)
        }
        // The supervisor cleans up, unless it was killed as well.
        for _ in 0..<100 where ProcessStart.time(of: record.ppid) != nil && record.ppid > 1 { usleep(2000) }
        store.remove(record.name)
        return hasEnded
    }

    private static func wait(_ process: CInt, milliseconds: Int) -> Bool {
        var watched = pollfd(fd: process, events: Int16(POLLIN), revents: 0)
        return retryingOnInterrupt { poll(&watched, 1, CInt(milliseconds)) } > 0
    }
}
