import CLinux
import Glibc

/// What a child finds out while this process goes on.
public struct ChildAnswer: ~Copyable {
    public let child: pid_t
    private let pipe: OwnedDescriptor

    /// Forks a child, which may start threads. Only for a process with one.
    /// - Parameter failed: told in the child why it could not be done.
    public init(_ body: () throws -> [UInt8], failed: (any Error) -> Void) throws(SystemError) {
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
        let result = OwnedDescriptor(ends[0])
        let child = try Process.fork {
            close(ends[0])
            Process.dieWithParent()
            do {
                try Files.writeAll(try body(), to: ends[1], name: "pipe")
                exit(0)
            } catch {
                failed(error)
                exit(255)
            }
        }
        close(ends[1])
        pipe = result
        self.child = child
    }

    /// Waits for it.
    /// - Returns: what `body` returned, nil where it has failed.
    public consuming func wait() throws(SystemError) -> [UInt8]? {
        let bytes = try Files.read(pipe, name: "pipe")
        return Process.wait(for: child) == 0 ? bytes : nil
    }
}
