import Linux

/// Reads a command line the way the peers' programs do: long options as `--name value` or `--name=value`, short ones
/// grouped and with their value attached, and settings from the environment.
public struct CommandLineParser {
    private let program: ProgramSpec

    public init(_ program: ProgramSpec) { self.program = program }

    /// What the user asks for.
    public enum Request {
        case command(CommandSpec, ParsedArguments, globals: ParsedArguments)
        /// Help on a command or group; nil for the program.
        case help(String?)
        case version
        /// Nothing at all was given.
        case nothing
    }

    /// - Parameter words: without the program's own name.
    /// - Throws: ``UsageError``
    public func parse(_ words: [String]) throws(UsageError) -> Request {
        var reader = OptionReader(options: program.globalOptions, command: "singularity")
        var index = 0
        // Global options come before the command.
        while index < words.count, words[index].hasPrefix("-"), words[index] != "-" {
            if words[index] == "--help" || words[index] == "-h" { return .help(nil) }
            if words[index] == "--version" { return .version }
            index = try reader.take(words, at: index)
        }
        guard index < words.count else { return .nothing }
        if words[index] == "help" {
            return .help(words[(index + 1)...].isEmpty ? nil : words[(index + 1)...].joined(separator: " "))
        }
        guard let (spec, used) = find(words[index...]) else {
            return try group(words[index...])
        }
        var globals = reader.result
        Self.applyEnvironment(program.globalOptions, to: &globals)
        return try parse(spec, Array(words[(index + used)...]), globals: globals)
    }

    private func find(_ words: ArraySlice<String>) -> (CommandSpec, Int)? {
        var (name, found): (String, (CommandSpec, Int)?) = ("", nil)
        for (index, word) in words.prefix(3).enumerated() {
            name += index == 0 ? word : " " + word
            if let command = program.command(name) { found = (command, index + 1) }
        }
        return found
    }

    /// A word that is a group of commands, or nothing that is known.
    private func group(_ words: ArraySlice<String>) throws(UsageError) -> Request {
        let word = words.first ?? ""
        if program.groups.contains(where: { $0.name == word }) {
            let rest = words.dropFirst()
            if rest.isEmpty || rest.contains("--help") || rest.contains("-h") { return .help(word) }
            throw UsageError(
                command: word, message: "unknown command \"\(rest.first ?? "")\" for \"singularity \(word)\"", kind: .unknownCommand)
        }
        var message = "unknown command \"\(word)\" for \"singularity\""
        if let near = Suggestion.nearest(to: word, among: program.commands.map(\.name)) { message += ", did you mean \"\(near)\"?" }
        throw UsageError(command: "singularity", message: message, kind: .unknownCommand)
    }

    private func parse(_ spec: CommandSpec, _ words: [String], globals: ParsedArguments) throws(UsageError) -> Request {
        let options = spec.options
        var reader = OptionReader(options: options, command: spec.name)
        var index = 0
        var onlyArguments = false
        while index < words.count {
            let word = words[index]
            if onlyArguments || !word.hasPrefix("-") || word == "-" {
                reader.result.arguments.append(word)
                index += 1
                if spec.stopsAtFirstArgument {
                    reader.result.arguments += words[index...]
                    break
                }
                continue
            }
            if word == "--" {
                onlyArguments = true
                index += 1
                continue
            }
            if word == "--help" || word == "-h" && !options.contains(where: { $0.short == "h" }) { return .help(spec.name) }
            index = try reader.take(words, at: index)
        }
        let count = reader.result.arguments.count
        guard spec.argumentCount.contains(count) else {
            throw UsageError(command: spec.name, message: Self.countMessage(spec.argumentCount, count), kind: .arguments)
        }
        Self.applyEnvironment(options, to: &reader.result)
        return .command(spec, reader.result, globals: globals)
    }

    private static func countMessage(_ allowed: ClosedRange<Int>, _ count: Int) -> String {
        if allowed.lowerBound == allowed.upperBound { return "accepts \(allowed.lowerBound) arg(s), received \(count)" }
        if count < allowed.lowerBound { return "requires at least \(allowed.lowerBound) arg(s), only received \(count)" }
        return "accepts at most \(allowed.upperBound) arg(s), received \(count)"
    }

    /// Settings count where the option was not given; those that can be given several times are added.
    private static func applyEnvironment(_ options: [OptionSpec], to result: inout ParsedArguments) {
        for option in options where !option.environment.isEmpty {
            let adds: Bool
            if case .array = option.kind { adds = true } else { adds = false }
            if result.isGiven(option.name) && !adds { continue }
            for name in option.environment {
                guard let value = Environment.setting(name) else { continue }
                switch option.kind {
                case .flag:
                    guard let flag = OptionReader.boolean(value) else { continue }
                    result.set(flag ? "true" : "false", for: option.name)
                case .value, .optionalValue: result.set(value, for: option.name)
                case .list: for part in value.split(separator: ",") { result.append(String(part), to: option.name) }
                case .array: result.append(value, to: option.name)
                }
                if !adds { break }
            }
        }
    }
}

/// Takes options from a list of words.
struct OptionReader {
    let options: [OptionSpec]
    let command: String
    var result = ParsedArguments()

    init(options: [OptionSpec], command: String) {
        self.options = options
        self.command = command
    }

    /// Takes the option at `index` with its value.
    /// - Returns: where the next word is.
    mutating func take(_ words: [String], at index: Int) throws(UsageError) -> Int {
        words[index].hasPrefix("--") ? try takeLong(words, at: index) : try takeShort(words, at: index)
    }

    private mutating func takeLong(_ words: [String], at index: Int) throws(UsageError) -> Int {
        let word = words[index].dropFirst(2)
        let name = String(word.prefix { $0 != "=" })
        guard let option = options.first(where: { $0.name == name || $0.aliases.contains(name) }) else {
            var message = "unknown flag: --\(name)"
            let known = options.filter { !$0.isHidden }.map(\.name)
            if let near = Suggestion.nearest(to: name, among: known) { message += ", did you mean --\(near)?" }
            throw error(message)
        }
        let attached = word.count > name.count ? String(word.dropFirst(name.count + 1)) : nil
        if option.kind == .flag {
            guard let flag = Self.boolean(attached ?? "true") else {
                throw error("invalid argument \"\(attached ?? "")\" for \"--\(name)\" flag: use true or false")
            }
            result.set(flag ? "true" : "false", for: option.name)
            return index + 1
        }
        if let attached {
            store(attached, option)
            return index + 1
        }
        if case .optionalValue = option.kind {
            store("yes", option)
            return index + 1
        }
        guard index + 1 < words.count else { throw error("flag needs an argument: --\(name)") }
        store(words[index + 1], option)
        return index + 2
    }

    private mutating func takeShort(_ words: [String], at index: Int) throws(UsageError) -> Int {
        var rest = words[index].dropFirst()
        while let letter = rest.popFirst() {
            guard let option = options.first(where: { $0.short == letter }) else {
                throw error("unknown shorthand flag: '\(letter)' in \(words[index])")
            }
            if option.kind == .flag {
                result.set("true", for: option.name)
                continue
            }
            if !rest.isEmpty {
                store(String(rest.first == "=" ? rest.dropFirst() : rest), option)
                return index + 1
            }
            guard index + 1 < words.count else { throw error("flag needs an argument: '\(letter)' in \(words[index])") }
            store(words[index + 1], option)
            return index + 2
        }
        return index + 1
    }

    private mutating func store(_ value: String, _ option: OptionSpec) {
        switch option.kind {
        case .list: for part in value.split(separator: ",") { result.append(String(part), to: option.name) }
        case .array: result.append(value, to: option.name)
        case .flag, .value, .optionalValue: result.set(value, for: option.name)
        }
    }

    private func error(_ message: String) -> UsageError { UsageError(command: command, message: message, kind: .option) }

    static func boolean(_ text: String) -> Bool? {
        switch text.lowercased() {
        case "1", "t", "true", "yes", "y", "on": true
        case "0", "f", "false", "no", "n", "off": false
        default: nil
        }
    }
}

/// The known word that a mistyped one is nearest to.
public enum Suggestion {
    public static func nearest(to word: String, among known: [String]) -> String? {
        let scored = known.map { ($0, distance(Array(word.utf8), Array($0.utf8))) }
        guard let best = scored.min(by: { $0.1 < $1.1 }), best.1 <= max(1, word.count / 3) else { return nil }
        return best.0
    }

    /// Insertions, deletions and replacements from one word to the other (Levenshtein).
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var row = Array(0...right.count)
        for (i, byte) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, other) in right.enumerated() {
                let replaced = diagonal + (byte == other ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(replaced, row[j + 1] + 1, row[j] + 1)
            }
        }
        return row[right.count]
    }
}
