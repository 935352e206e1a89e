import CLinux
import Glibc
import Linux

/// A program of the host that serves a file system through an open /dev/fuse.
///
/// It is forked before the mount is made, while the host's files are in reach, and executed when the mount is there. It gets
/// a mount namespace of its own: in the container's, the change of the root directory would make it look for its files in
/// what it serves itself.
final class WaitingServer {
    let process: pid_t
    private let start: SharedDescriptor

    /// Forks it, and returns when it no longer depends on what is mounted here. Only for a process with one thread.
    /// - Parameters:
    ///   - command: the program and its arguments; the device is added behind them.
    ///   - device: an open /dev/fuse.
    ///   - diesWithParent: it ends with this process; otherwise with the last user of the mount.
    ///   - isSilent: what it prints goes nowhere.
    init(_ command: [String], device: CInt, diesWithParent: Bool, isSilent: Bool) throws(SystemError) {
        var ready: [CInt] = [-1, -1]
        var mounted: [CInt] = [-1, -1]
        guard clinux_pipe(&ready) == 0, clinux_pipe(&mounted) == 0 else { throw .last("pipe") }
        process = try Process.fork {
            if diesWithParent { Process.dieWithParent() } else { setsid() }
            guard (try? Namespaces.mount.unshare()) != nil else { _exit(1) }
            var byte: UInt8 = 1
            _ = write(ready[1], &byte, 1)
            close(ready[1])
            close(mounted[1])
            guard retryingOnInterrupt({ read(mounted[0], &byte, 1) }) == 1 else { _exit(1) }
            if isSilent {
                let null = open("/dev/null", O_RDWR)
                for standard in 0...2 as ClosedRange<CInt> { dup2(null, standard) }
            }
            Self.become(command, device)
        }
        close(ready[1])
        close(mounted[0])
        start = SharedDescriptor(OwnedDescriptor(mounted[1]))
        let isReady = OwnedDescriptor(ready[0])
        let waiting = isReady.rawValue
        var byte: UInt8 = 0
        guard retryingOnInterrupt({ read(waiting, &byte, 1) }) == 1 else { throw SystemError("start \(command[0])", errno: EPERM) }
    }

    /// The mount is there.
    func begin() throws(SystemError) { try Files.writeAll([1], to: start.rawValue, name: "pipe") }

    /// Becomes a program that serves a device. Its number there is 3.
    static func become(_ command: [String], _ device: CInt) -> Never {
        let number: CInt = 3
        if device == number { _ = fcntl(number, F_SETFD, 0) } else { dup2(device, number) }
        _ = clinux_close_range(UInt32(number + 1), UInt32.max, 0)
        var argv = (command + ["/dev/fd/\(number)"]).map { strdup($0) } + [nil]
        execvp(command[0], &argv)
        _exit(127)
    }
}
