/// What a 401 answer asks for (RFC 9110, WWW-Authenticate; Docker registry token authentication).
struct Challenge: Equatable {
    enum Scheme { case basic, bearer }
    var scheme: Scheme
    var parameters: [String: String]

    /// The first basic or bearer challenge of the headers.
    static func first(in headers: [String]) -> Challenge? {
        for header in headers {
            if let challenge = Challenge(header) { return challenge }
        }
        return nil
    }

    init?(_ header: String) {
        let text = header.trimmed
        let word = text.prefix { !$0.isWhitespace }
        switch word.lowercased() {
        case "basic": scheme = .basic
        case "bearer": scheme = .bearer
        default: return nil
        }
        parameters = Self.parse(text.dropFirst(word.count))
    }

    /// `name=value` pairs separated by commas; a quoted value may hold commas and backslashes.
    private static func parse(_ text: Substring) -> [String: String] {
        var out: [String: String] = [:]
        var rest = text
        while true {
            rest = rest.drop { $0.isWhitespace || $0 == "," }
            let name = rest.prefix { $0 != "=" && $0 != "," && !$0.isWhitespace }
            rest = rest.dropFirst(name.count)
            guard !name.isEmpty, rest.first == "=" else { return out }
            rest = rest.dropFirst()
            var value = ""
            if rest.first == "\"" {
                rest = rest.dropFirst()
                while let character = rest.popFirst(), character != "\"" {
                    value.append(character == "\\" ? rest.popFirst() ?? character : character)
                }
            } else {
                value = String(rest.prefix { $0 != "," && !$0.isWhitespace })
                rest = rest.dropFirst(value.count)
            }
            out[name.lowercased()] = value
        }
    }
}
