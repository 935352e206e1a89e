/// Lines of a definition file with their numbers.
struct SourceText {
    /// Name of the file, for messages.
    let file: String
    let lines: [Line]

    struct Line: Equatable {
        /// From 1.
        var number: Int
        var text: Substring

        /// The first word, up to a blank.
        var firstWord: Substring { text.drop { $0 == " " || $0 == "\t" }.prefix { $0 != " " } }
        /// Characters before the first word.
        var indentation: Int { text.prefix { $0 == " " || $0 == "\t" }.count }
        var isBlank: Bool { text.allSatisfy { $0 == " " || $0 == "\t" } }
        var startsSection: Bool { firstWord.first == "%" }
    }

    /// A carriage return before a line's end is dropped, as the peers do.
    init(_ text: String, file: String) {
        self.file = file
        var lines: [Line] = []
        var number = 0
        // "\r\n" is one Character in Swift, so both ends of a line are named.
        for line in text.split(omittingEmptySubsequences: false, whereSeparator: { $0 == "\n" || $0 == "\r\n" }) {
            number += 1
            lines.append(Line(number: number, text: line))
        }
        if lines.last?.text.isEmpty == true { lines.removeLast() }
        self.lines = lines
    }

    func error(_ message: String, _ line: Line, column: Int = 1, suggestion: String? = nil) -> DefinitionError {
        DefinitionError(
            file: file, line: line.number, column: column, text: String(line.text), message: message, suggestion: suggestion)
    }

    func error(_ message: String) -> DefinitionError {
        DefinitionError(file: file, line: 0, column: 0, text: "", message: message)
    }
}

extension StringProtocol {
    /// Without blanks at both ends.
    var trimmed: String {
        let front = drop { $0 == " " || $0 == "\t" }
        return String(front.reversed().drop { $0 == " " || $0 == "\t" || $0 == "\r" }.reversed())
    }
}
