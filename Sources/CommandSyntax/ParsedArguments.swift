/// The options and arguments of a command line.
public struct ParsedArguments: Sendable {
    /// Values in the order in which they were given, by the option's name.
    private var values: [String: [String]] = [:]
    /// Names of options that came from the environment.
    private var inherited: Set<String> = []
    public internal(set) var arguments: [String] = []

    public init() {}

    /// Whether a flag is on.
    public func has(_ name: String) -> Bool { values[name]?.last == "true" }

    /// Whether an option was given on the command line or set in the environment.
    public func isGiven(_ name: String) -> Bool { values[name] != nil }

    public subscript(_ name: String) -> String? { values[name]?.last }

    /// All values of an option.
    public func all(_ name: String) -> [String] { values[name] ?? [] }

    mutating func append(_ value: String, to name: String) { values[name, default: []].append(value) }
    mutating func set(_ value: String, for name: String) { values[name] = [value] }
}
