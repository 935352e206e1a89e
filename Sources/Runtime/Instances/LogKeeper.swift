import CLinux
import Glibc
import Linux

/// The process that writes what an instance prints, where its logs have a limit. It ends with the last process that could
/// print something.
enum LogKeeper {
    /// - Parameter logs: of standard output and standard error.
    /// - Returns: its number, and the descriptors for standard output and standard error, which the caller closes.
    static func start(_ logs: [RotatedLog]) throws(SystemError) -> (process: pid_t, ends: [CInt]) {
        var reading: [CInt] = []
        var writing: [CInt] = []
        for _ in logs {
            var ends: [CInt] = [-1, -1]
            guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
            reading.append(ends[0])
            writing.append(ends[1])
        }
        let process = try Process.fork { keep(logs, reading) }
        for end in reading { close(end) }
        return (process, writing)
    }

    private static func keep(_ logs: [RotatedLog], _ pipes: [CInt]) -> Never {
        var logs = logs
        KeeperProcess.begin("singularity-log", for: logs.first?.path)
        Process.closeDescriptors(except: Set(pipes + logs.map(\.descriptor)))
        try? Process.dropCapabilities()
        var watched = pipes.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while watched.contains(where: { $0.fd >= 0 }) {
            guard poll(&watched, nfds_t(watched.count), -1) > 0 else { continue }
            for index in watched.indices where watched[index].revents != 0 {
                let count = retryingOnInterrupt { read(watched[index].fd, &buffer, buffer.count) }
                if count <= 0 { watched[index].fd = -1 } else { logs[index].add(buffer[..<count]) }
            }
        }
        _exit(0)
    }
}
