/// Evaluates the simple part of a POSIX shell that environment scripts are made of: assignments, `export`, `unset`,
/// quotes, and parameters with defaults (POSIX.1-2017, Shell Command Language, 2.2, 2.6.2).
///
/// Starting a shell costs more than the rest of starting a container, and some images have none. A script that uses
/// anything else is reported as such, and a real shell runs it.
package struct ShellSubset {
    /// The variables, with those that are exported or not told apart no further: all of them reach the program.
    package var variables: [String: String]

    /// The script needs a real shell.
    package struct NotSimple: Error {
        package init() {}
    }

    package init(_ variables: [String: String] = [:]) { self.variables = variables }

    /// Evaluates a script.
    /// - Throws: ``NotSimple``; the variables are then as they were.
    package mutating func source(_ script: String) throws(NotSimple) {
        var copy = self
        var parser = Parser(script)
        while try copy.command(&parser) {}
        self = copy
    }

    /// Evaluates a text as the inside of double quotes.
    package func expand(quoted text: String) throws(NotSimple) -> String {
        var copy = self
        var parser = Parser(text)
        return try copy.doubleQuoted(&parser, until: nil)
    }

    private struct Parser {
        private let characters: [Character]
        private(set) var index = 0
        init(_ text: String) { characters = Array(text) }
        var peek: Character? { index < characters.count ? characters[index] : nil }
        mutating func next() -> Character? {
            guard index < characters.count else { return nil }
            index += 1
            return characters[index - 1]
        }
        mutating func skip(_ condition: (Character) -> Bool) { while let peek, condition(peek) { index += 1 } }
    }

    /// One command.
    /// - Returns: false at the end of the script.
    private mutating func command(_ parser: inout Parser) throws(NotSimple) -> Bool {
        parser.skip { $0 == " " || $0 == "\t" || $0 == "\n" || $0 == ";" || $0 == "\r\n" }
        guard let first = parser.peek else { return false }
        if first == "#" {
            parser.skip { $0 != "\n" && $0 != "\r\n" }
            return true
        }
        let name = try commandName(&parser)
        switch name {
        case "export", "unset":
            while try argument(&parser, of: name) {}
        case ":", "true":
            parser.skip { $0 != "\n" && $0 != ";" }
        default:
            guard parser.peek == "=" else { throw NotSimple() }
            _ = parser.next()
            variables[name] = try word(&parser)
            // `NAME=value command` sets the variable for that command alone.
            parser.skip { $0 == " " || $0 == "\t" }
            guard Self.endsCommand(parser.peek) else { throw NotSimple() }
        }
        return true
    }

    private static func endsCommand(_ character: Character?) -> Bool {
        guard let character else { return true }
        return character == "\n" || character == "\r\n" || character == ";" || character == "#"
    }

    private static func isNameCharacter(_ character: Character) -> Bool {
        character == "_" || character.isASCII && (character.isLetter || character.isNumber)
    }

    private func commandName(_ parser: inout Parser) throws(NotSimple) -> String {
        if parser.peek == ":" {
            _ = parser.next()
            return ":"
        }
        return try name(&parser)
    }

    private func name(_ parser: inout Parser) throws(NotSimple) -> String {
        var out = ""
        while let character = parser.peek, Self.isNameCharacter(character) {
            out.append(character)
            _ = parser.next()
        }
        guard let first = out.first, !first.isNumber else { throw NotSimple() }
        return out
    }

    /// One argument of export or unset.
    private mutating func argument(_ parser: inout Parser, of command: String) throws(NotSimple) -> Bool {
        parser.skip { $0 == " " || $0 == "\t" }
        if Self.endsCommand(parser.peek) { return false }
        let variable = try name(&parser)
        if command == "unset" {
            variables[variable] = nil
            return true
        }
        guard parser.peek == "=" else {
            guard Self.endsCommand(parser.peek) || parser.peek == " " || parser.peek == "\t" else { throw NotSimple() }
            return true
        }
        _ = parser.next()
        variables[variable] = try word(&parser)
        return true
    }

    /// The value of an assignment, up to a blank or the end of the command.
    private mutating func word(_ parser: inout Parser) throws(NotSimple) -> String {
        var out = ""
        while let character = parser.peek {
            switch character {
            case " ", "\t", "\n", "\r\n", ";": return out
            case "&", "|", "<", ">", "(", ")", "`", "*", "?", "[", "~", "{", "}": throw NotSimple()
            case "'":
                _ = parser.next()
                out += try singleQuoted(&parser)
            case "\"":
                _ = parser.next()
                out += try doubleQuoted(&parser, until: "\"")
            case "\\":
                _ = parser.next()
                guard let escaped = parser.next() else { throw NotSimple() }
                if escaped != "\n" { out.append(escaped) }
            case "$":
                _ = parser.next()
                out += try parameter(&parser)
            default:
                out.append(character)
                _ = parser.next()
            }
        }
        return out
    }

    private func singleQuoted(_ parser: inout Parser) throws(NotSimple) -> String {
        var out = ""
        while let character = parser.next() {
            if character == "'" { return out }
            out.append(character)
        }
        throw NotSimple()
    }

    /// - Parameter end: the closing quote, nil where the text itself is the inside.
    private mutating func doubleQuoted(_ parser: inout Parser, until end: Character?) throws(NotSimple) -> String {
        var out = ""
        while let character = parser.next() {
            if character == end { return out }
            switch character {
            case "\\": out += try escaped(&parser)
            case "$": out += try parameter(&parser)
            case "`": throw NotSimple()
            default: out.append(character)
            }
        }
        if end != nil { throw NotSimple() }
        return out
    }

    /// In double quotes a backslash means itself unless one of a few characters follows.
    private func escaped(_ parser: inout Parser) throws(NotSimple) -> String {
        guard let next = parser.peek else { return "\\" }
        switch next {
        case "$", "`", "\"", "\\":
            _ = parser.next()
            return String(next)
        case "\n":
            _ = parser.next()
            return ""
        default: return "\\"
        }
    }

    /// What stands behind a dollar sign.
    private mutating func parameter(_ parser: inout Parser) throws(NotSimple) -> String {
        guard let first = parser.peek else { return "$" }
        if first == "{" {
            _ = parser.next()
            return try braced(&parser)
        }
        guard Self.isNameCharacter(first), !first.isNumber else {
            if first == "(" || first == "$" || first == "?" || first == "#" || first == "@" || first == "*" || first.isNumber
                || first == "!" || first == "-"
            {
                throw NotSimple()
            }
            return "$"
        }
        return variables[try name(&parser)] ?? ""
    }

    private mutating func braced(_ parser: inout Parser) throws(NotSimple) -> String {
        let variable = try name(&parser)
        let value = variables[variable]
        guard var operation = parser.next() else { throw NotSimple() }
        if operation == "}" { return value ?? "" }
        var emptyCounts = false
        if operation == ":" {
            emptyCounts = true
            guard let next = parser.next() else { throw NotSimple() }
            operation = next
        }
        let other = try alternative(&parser)
        let isSet = value != nil && !(emptyCounts && value == "")
        switch operation {
        case "-": return isSet ? value ?? "" : other
        case "+": return isSet ? other : ""
        case "=":
            if isSet { return value ?? "" }
            variables[variable] = other
            return other
        default: throw NotSimple()
        }
    }

    /// The word of `${name:-word}`, up to its brace. Quotes in it count, as in all shells when they come in pairs.
    private mutating func alternative(_ parser: inout Parser) throws(NotSimple) -> String {
        var out = ""
        while let character = parser.next() {
            switch character {
            case "}": return out
            case "\\":
                guard let next = parser.next() else { throw NotSimple() }
                if !"$`\"\\}".contains(next) { out.append("\\") }
                out.append(next)
            case "\"": out += try doubleQuoted(&parser, until: "\"")
            case "$": out += try parameter(&parser)
            case "`", "'": throw NotSimple()
            default: out.append(character)
            }
        }
        throw NotSimple()
    }
}
