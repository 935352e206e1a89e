/// Values for the placeholders `{{ NAME }}` of a definition file.
public struct BuildArguments: Sendable {
    private let given: [String: String]
    /// Names that no stage has asked for.
    public private(set) var unused: Set<String>

    /// - Parameters:
    ///   - fromFiles: of `--build-arg-file`.
    ///   - given: of `--build-arg`, which beat those.
    public init(fromFiles: [(name: String, value: String)] = [], given: [(name: String, value: String)] = []) {
        var values: [String: String] = [:]
        for (name, value) in fromFiles + given { values[name] = value }
        self.given = values
        unused = Set(values.keys)
    }

    /// Reads one `NAME=value`; nil where it is none.
    public static func parse(_ text: String) -> (name: String, value: String)? {
        guard let equals = text.firstIndex(of: "=") else { return nil }
        let name = text[..<equals].trimmed
        return name.isEmpty ? nil : (name, text[text.index(after: equals)...].trimmed)
    }

    /// The `NAME=value` lines of a text, and those that are none.
    public static func parse(lines text: String) -> (values: [(name: String, value: String)], bad: [String]) {
        var values: [(name: String, value: String)] = []
        var bad: [String] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let line = line.trimmed
            if line.isEmpty || line.hasPrefix("#") { continue }
            if let value = parse(line) { values.append(value) } else { bad.append(line) }
        }
        return (values, bad)
    }

    /// Puts values into a stage's text.
    /// - Parameter defaults: the stage's `%arguments`.
    mutating func substitute(
        _ source: SourceText, _ lines: ArraySlice<SourceText.Line>, defaults: [String: String]
    ) throws(DefinitionError) -> String {
        var out = ""
        for line in lines {
            var rest = line.text
            var isComment = false
            while let placeholder = Self.placeholder(in: rest) {
                let before = rest[..<placeholder.range.lowerBound]
                isComment = isComment || Self.startsComment(before)
                out += before
                if isComment {
                    out += rest[placeholder.range]
                } else {
                    guard let value = value(of: placeholder.name, defaults) else {
                        let column = line.text.distance(from: line.text.startIndex, to: placeholder.range.lowerBound) + 1
                        throw source.error(
                            "build var \(placeholder.name) is not defined: give it with --build-arg \(placeholder.name)=VALUE or in %arguments",
                            line, column: column, suggestion: NearestWord.of(placeholder.name, in: Array(given.keys) + Array(defaults.keys))
                        )
                    }
                    out += value
                }
                rest = rest[placeholder.range.upperBound...]
            }
            out += rest + "\n"
        }
        return out
    }

    private mutating func value(of name: String, _ defaults: [String: String]) -> String? {
        unused.remove(name)
        guard let text = given[name] ?? defaults[name] else { return nil }
        // One level: a value may hold placeholders itself.
        var out = ""
        var rest = Substring(text)
        while let inner = Self.placeholder(in: rest) {
            out += rest[..<inner.range.lowerBound]
            unused.remove(inner.name)
            out += given[inner.name] ?? defaults[inner.name] ?? String(rest[inner.range])
            rest = rest[inner.range.upperBound...]
        }
        return out + rest
    }

    /// A `#` makes a comment of what follows, unless it is the beginning of `#!`.
    private static func startsComment(_ text: Substring) -> Bool {
        var previous = false
        for character in text {
            if previous && character != "!" { return true }
            previous = character == "#"
        }
        return previous
    }

    /// The first `{{ NAME }}` of a text.
    private static func placeholder(in text: Substring) -> (name: String, range: Range<Substring.Index>)? {
        var start = text.startIndex
        while let open = text[start...].firstRange(of: "{{") {
            var index = open.upperBound
            while index < text.endIndex, text[index] == " " || text[index] == "\t" { index = text.index(after: index) }
            let nameStart = index
            while index < text.endIndex, text[index].isASCII, text[index].isLetter || text[index].isNumber || text[index] == "_" {
                index = text.index(after: index)
            }
            let name = text[nameStart..<index]
            while index < text.endIndex, text[index] == " " || text[index] == "\t" { index = text.index(after: index) }
            if !name.isEmpty, text[index...].hasPrefix("}}") {
                return (String(name), open.lowerBound..<text.index(index, offsetBy: 2))
            }
            start = text.index(after: open.lowerBound)
        }
        return nil
    }
}
