/// One option of a command, as data: the parser, the help text, the manual page and the completions all read it.
public struct OptionSpec: Sendable {
    public enum Kind: Sendable, Equatable {
        /// Present or not; `--name=false` takes it back.
        case flag
        /// One value; the last one given counts. The text says what it is, for the help.
        case value(String)
        /// May have a value, behind an equals sign; `yes` without one.
        case optionalValue(String)
        /// Values separated by commas; may be given several times.
        case list(String)
        /// May be given several times; commas are left alone.
        case array(String)
    }

    /// Without the dashes.
    public let name: String
    public let short: Character?
    public let kind: Kind
    /// Other spellings that mean the same.
    public let aliases: [String]
    /// Names behind `SINGULARITY_` and `APPTAINER_` that set it where it is not given.
    public let environment: [String]
    /// One line.
    public let help: String
    /// Works, but is not advertised.
    public let isHidden: Bool

    public init(
        _ name: String, _ short: Character? = nil, _ kind: Kind = .flag, _ help: String, aliases: [String] = [],
        environment: [String] = [], hidden: Bool = false
    ) {
        self.name = name
        self.short = short
        self.kind = kind
        self.aliases = aliases
        self.environment = environment
        self.help = help
        isHidden = hidden
    }

    /// What stands behind the name in the help.
    var valueText: String {
        switch kind {
        case .flag: ""
        case .optionalValue(let name): "[=\(name)]"
        case .value(let name), .list(let name), .array(let name): " \(name)"
        }
    }

    /// The word for the value in the help, nil for a flag.
    var valueName: String? {
        switch kind {
        case .flag: nil
        case .value(let name), .optionalValue(let name), .list(let name), .array(let name): name
        }
    }
}
