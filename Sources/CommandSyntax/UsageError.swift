/// A command line that cannot be understood. It ends the program with status 1.
public struct UsageError: Error, Sendable {
    public enum Kind: Sendable {
        /// An option that is not there or lacks its value: the help lists the options.
        case option
        /// Too few or too many arguments: the help shows the usage line.
        case arguments
        case unknownCommand
    }

    public let command: String
    public let message: String
    public let kind: Kind

    public init(command: String, message: String, kind: Kind) {
        self.command = command
        self.message = message
        self.kind = kind
    }
}
