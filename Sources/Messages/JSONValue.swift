/// A JSON value that prints as the peers' programs print it: compact or tab-indented, with `<`, `>` and `&` escaped.
public enum JSONValue: Sendable, Equatable {
    case string(String)
    case number(Int)
    case bool(Bool)
    case null
    case array([JSONValue])
    /// Keys in the order in which they are to be printed.
    case object([(key: String, value: JSONValue)])

    public static func == (left: JSONValue, right: JSONValue) -> Bool { left.compact == right.compact }

    /// An object with its keys in the order of their bytes.
    public static func object(sorted values: [String: String]) -> JSONValue {
        .object(values.sorted { Array($0.key.utf8).lexicographicallyPrecedes(Array($1.key.utf8)) }.map { ($0.key, .string($0.value)) })
    }

    public var compact: String { text(indent: nil, depth: 0) }
    /// With a tab for each level and no newline at the end.
    public var indented: String { indented(by: "\t") }
    /// With a text for each level and no newline at the end.
    public func indented(by indent: String) -> String { text(indent: indent, depth: 0) }

    private func text(indent: String?, depth: Int) -> String {
        switch self {
        case .string(let text): return Self.quoted(text)
        case .number(let number): return String(number)
        case .null: return "null"
        case .bool(let flag): return flag ? "true" : "false"
        case .array(let values):
            return Self.group("[", "]", values.map { $0.text(indent: indent, depth: depth + 1) }, indent, depth)
        case .object(let pairs):
            let separator = indent == nil ? ":" : ": "
            let members = pairs.map { Self.quoted($0.key) + separator + $0.value.text(indent: indent, depth: depth + 1) }
            return Self.group("{", "}", members, indent, depth)
        }
    }

    private static func group(
        _ open: String, _ close: String, _ members: [String], _ indent: String?, _ depth: Int
    ) -> String {
        guard let indent, !members.isEmpty else { return open + members.joined(separator: ",") + close }
        let inner = "\n" + String(repeating: indent, count: depth + 1)
        return open + inner + members.joined(separator: "," + inner) + "\n" + String(repeating: indent, count: depth) + close
    }

    static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case "<", ">", "&", "\u{2028}", "\u{2029}", "\u{0}"..."\u{1f}":
                let digits = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}
