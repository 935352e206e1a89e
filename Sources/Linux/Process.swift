import CLinux
import Glibc

/// Changes of the calling process that have no way back, see fork(2) and prctl(2).
public enum Process {
    /// Makes a child that goes on in `body` and never returns from it. Only for a process with one thread.
    /// - Returns: the child's process id.
    public static func fork(_ body: () -> Never) throws(SystemError) -> pid_t {
        let pid = clinux_fork()
        guard pid >= 0 else { throw .last("fork") }
        if pid == 0 { body() }
        return pid
    }

    /// Makes a child that goes on where this process is, and that the kernel kills when this process ends, however soon, also where it
    /// is the first one of a PID namespace. Only for a process with one thread.
    /// - Returns: the child's process id, 0 in the child.
    public static func forkBound() throws(SystemError) -> pid_t {
        let pid = clinux_fork_bound()
        guard pid >= 0 else { throw .last("fork") }
        return pid
    }

    /// The child that this process waits for, and that a signal which ends this process must end first. Read in a signal
    /// handler; only for a process with one thread.
    public nonisolated(unsafe) static var awaited: pid_t = 0

    /// Does something in a child, which may start threads.
    /// - Parameter failed: told in the child why it could not be done.
    /// - Returns: what `body` returned, nil where it has failed.
    public static func inChild(_ body: () throws -> [UInt8], failed: (any Error) -> Void) throws(SystemError) -> [UInt8]? {
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
        let result = OwnedDescriptor(ends[0])
        let child = try fork {
            close(ends[0])
            dieWithParent()
            do {
                try Files.writeAll(try body(), to: ends[1], name: "pipe")
                exit(0)
            } catch {
                failed(error)
                exit(255)
            }
        }
        close(ends[1])
        awaited = child
        defer { awaited = 0 }
        let bytes = try Files.read(result, name: "pipe")
        return wait(for: child) == 0 ? bytes : nil
    }

    /// Waits for a child.
    /// - Returns: its status as wait(2) has it.
    @discardableResult
    public static func wait(for pid: pid_t) -> CInt {
        var status: CInt = 0
        retryingOnInterrupt { waitpid(pid, &status, 0) }
        return status
    }

    /// What a shell calls the status of a child: its exit status, or 128 + the signal that ended it.
    /// - Parameter status: as wait(2) has it.
    public static func exitCode(_ status: CInt) -> Int32 { status & 0x7f == 0 ? (status >> 8) & 0xff : 128 + (status & 0x7f) }

    /// The kernel sends this process a signal when its parent ends.
    public static func dieWithParent(by signal: CInt = SIGKILL) { _ = clinux_die_with_parent(signal) }

    /// execve(2) gives no rights any more that this process does not have.
    public static func forbidNewPrivileges() throws(SystemError) {
        guard clinux_no_new_privileges() == 0 else { throw .last("set no_new_privs") }
    }

    /// Other processes of the same user may not look into this one.
    public static func forbidInspection() { _ = clinux_set_undumpable() }

    /// Gives up every system call that serving the content of open files does not take: what has got in by a hostile image
    /// can start no program, reach no network, write no file and signal nobody. Where the kernel has no filters, nothing
    /// is given up.
    public static func confineToReading() { _ = clinux_confine_reader() }

    /// As ``confineToReading()``, for a server that changes open files: it can still make, change and remove files of one directory,
    /// where its lease is, and no others where the kernel has Landlock.
    public static func confineToWriting(in folder: borrowing OwnedDescriptor) { _ = clinux_confine_writer(folder.rawValue) }

    /// - Parameter name: at most 15 bytes, as `ps` shows it.
    public static func setName(_ name: String) { _ = clinux_set_name(name) }

    public static func dropCapabilities() throws(SystemError) {
        guard clinux_drop_capabilities() == 0 else { throw .last("drop capabilities") }
    }

    /// Closes all descriptors but 0 to 2 and those given.
    public static func closeDescriptors(except kept: Set<CInt>) {
        var next: CInt = 3
        for descriptor in kept.sorted() where descriptor >= 3 {
            if descriptor > next { _ = clinux_close_range(UInt32(next), UInt32(descriptor - 1), 0) }
            next = descriptor + 1
        }
        _ = clinux_close_range(UInt32(next), UInt32.max, 0)
    }

    /// Ends this process with the signal that ended a child, so that the caller sees what happened.
    public static func raiseDeadly(_ signal: CInt) -> Never {
        var limit = rlimit(rlim_cur: 0, rlim_max: 0)
        // The child has written its core dump, if it may.
        setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit)
        Glibc.signal(signal, SIG_DFL)
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, signal)
        sigprocmask(SIG_UNBLOCK, &set, nil)
        kill(getpid(), signal)
        _exit(128 + signal)
    }
}
