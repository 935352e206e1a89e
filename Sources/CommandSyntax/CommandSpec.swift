/// One command, as data.
public struct CommandSpec: Sendable {
    /// Words that name it, such as `sif list`.
    public let name: String
    /// What comes after the options in the usage line.
    public let arguments: String
    /// One line.
    public let summary: String
    /// Paragraphs for the help and the manual page.
    public let details: String
    /// Command lines that work when pasted.
    public let examples: [String]
    private let makeOptions: @Sendable () -> [OptionSpec]
    /// How many arguments it takes.
    public let argumentCount: ClosedRange<Int>
    /// Everything behind the first argument belongs to the program that is run.
    public let stopsAtFirstArgument: Bool
    public let isHidden: Bool

    public init(
        _ name: String, arguments: String, summary: String, details: String = "", examples: [String] = [],
        options: @autoclosure @escaping @Sendable () -> [OptionSpec] = [], argumentCount: ClosedRange<Int>,
        stopsAtFirstArgument: Bool = false,
        hidden: Bool = false
    ) {
        self.name = name
        self.arguments = arguments
        self.summary = summary
        self.details = details
        self.examples = examples
        makeOptions = options
        self.argumentCount = argumentCount
        self.stopsAtFirstArgument = stopsAtFirstArgument
        isHidden = hidden
    }

    /// Made when they are asked for: a start needs those of one command, and there are a thousand.
    public var options: [OptionSpec] { makeOptions() }

    /// `singularity NAME [options...] ARGUMENTS`.
    public var usageLine: String {
        "singularity \(name)" + (options.isEmpty ? "" : " [\(name.split(separator: " ").last ?? "") options...]")
            + (arguments.isEmpty ? "" : " \(arguments)")
    }
}

/// The program: its global options and its commands.
public struct ProgramSpec: Sendable {
    public let globalOptions: [OptionSpec]
    public let commands: [CommandSpec]
    /// Summaries of the words that only group commands, such as `sif`.
    public let groups: [(name: String, summary: String)]

    public init(globalOptions: [OptionSpec], commands: [CommandSpec], groups: [(name: String, summary: String)]) {
        self.globalOptions = globalOptions
        self.commands = commands
        self.groups = groups
    }

    public func command(_ name: String) -> CommandSpec? { commands.first { $0.name == name } }

    /// Commands below a group.
    public func commands(in group: String) -> [CommandSpec] { commands.filter { $0.name.hasPrefix(group + " ") } }
}
