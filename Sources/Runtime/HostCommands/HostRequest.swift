import Linux

/// What a program in a container asks the host to run. Over the socket: three descriptors, the request's size in four bytes, and
/// its fields with a NUL between them. The answer is the status as wait(2) has it, in four bytes. Until then each byte is
/// a signal for the command.
package struct HostRequest: Equatable {
    package var name: String
    package var arguments: [String]
    /// In the container.
    package var workingDirectory: String
    /// `NAME=value`.
    package var variables: [String]

    /// Bytes. The kernel takes no more from execve(2) on most hosts.
    static let largest = 8 << 20

    package init(name: String, arguments: [String], workingDirectory: String, variables: [String]) {
        self.name = name
        self.arguments = arguments
        self.workingDirectory = workingDirectory
        self.variables = variables
    }

    package var bytes: [UInt8] {
        let fields = [name, workingDirectory, String(arguments.count)] + arguments + variables
        return Array(fields.map { RawText.bytes($0) }.joined(separator: [0]))
    }

    /// Nil for what is no request.
    package init?(_ bytes: [UInt8]) {
        let fields = bytes.split(separator: 0, omittingEmptySubsequences: false).map { RawText.string($0) }
        guard fields.count >= 3, let count = Int(fields[2]), count >= 0, count <= fields.count - 3 else { return nil }
        name = fields[0]
        workingDirectory = fields[1]
        arguments = Array(fields[3..<3 + count])
        variables = Array(fields[(3 + count)...])
    }
}
