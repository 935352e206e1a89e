import CLinux
import Glibc
import Linux

/// The side of a container: asks the host to run a command, and ends as it ended.
public enum HostCommandClient {
    /// Gets the signals; read in a signal handler.
    private nonisolated(unsafe) static var socket: CInt = -1

    /// - Parameters:
    ///   - name: the command.
    ///   - variables: of this process.
    public static func run(_ name: String, _ arguments: [String], variables: [(name: String, value: String)]) throws -> Never {
        socket = clinux_local_socket(HostCommands.socket, 0)
        guard socket >= 0 else {
            throw RuntimeError.badOption(
                "\(name) runs on the host, which cannot be reached (\(SystemError.last("").reason)): the container was started without --scheduler, or its start has ended"
            )
        }
        let request = HostRequest(
            name: name, arguments: arguments, workingDirectory: Files.workingDirectory ?? "/",
            variables: variables.map { "\($0.name)=\($0.value)" })
        let bytes = request.bytes
        guard bytes.count <= HostRequest.largest else { throw RuntimeError.badOption("\(name): the arguments and variables are too long") }
        guard clinux_send_descriptors(socket, [0, 1, 2], 3) == 0 else { throw SystemError.last("send descriptors") }
        let size = withUnsafeBytes(of: UInt32(bytes.count).littleEndian) { Array($0) }
        try Files.writeAll(size + bytes, to: socket, name: HostCommands.socket)
        // The command is in no foreground of this terminal: what the terminal and others send to this process is for it.
        for number in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT] {
            signal(number) { number in
                var byte = UInt8(truncatingIfNeeded: number)
                _ = write(HostCommandClient.socket, &byte, 1)
            }
        }
        signal(SIGPIPE, SIG_IGN)
        var status: CInt = 0
        let count = retryingOnInterrupt { recv(socket, &status, 4, CInt(MSG_WAITALL)) }
        guard count == 4 else { throw RuntimeError.badOption("\(name) was ended on the host, or refused") }
        status = CInt(littleEndian: status)
        if status & 0x7f != 0 { Process.raiseDeadly(status & 0x7f) }
        exit((status >> 8) & 0xff)
    }
}
