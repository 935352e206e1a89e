/// A mistake in a definition file, with its place.
public struct DefinitionError: Error, CustomStringConvertible, Equatable {
    /// Name of the file.
    public var file: String
    /// From 1; 0 where the mistake is in the file as a whole.
    public var line: Int
    /// From 1, in characters.
    public var column: Int
    /// The line as it stands in the file.
    public var text: String
    /// One sentence for people.
    public var message: String
    /// What may have been meant.
    public var suggestion: String?

    public init(file: String, line: Int, column: Int, text: String, message: String, suggestion: String? = nil) {
        self.file = file
        self.line = line
        self.column = column
        self.text = text
        self.message = message
        self.suggestion = suggestion
    }

    public var description: String {
        let hint = suggestion.map { "; did you mean \($0)?" } ?? ""
        guard line > 0 else { return "\(file): \(message)\(hint)" }
        let number = String(line)
        let margin = String(repeating: " ", count: number.count)
        let shown = text.prefix(160).map { $0 == "\t" ? " " : $0 }
        let caret = String(repeating: " ", count: max(0, min(column, 160) - 1)) + "^"
        return "\(file):\(line):\(column): \(message)\(hint)\n  \(number) | \(String(shown))\n  \(margin) | \(caret)"
    }
}

/// Finds the word that was probably meant.
enum NearestWord {
    /// - Returns: the candidate with the fewest changed letters, where these are few enough.
    static func of(_ word: String, in candidates: [String]) -> String? {
        let limit = word.count < 4 ? 1 : max(2, word.count / 3)
        let best = candidates.map { (word: $0, distance: distance(word, $0)) }.min { $0.distance < $1.distance }
        guard let best, best.distance <= limit else { return nil }
        return best.word
    }

    /// Levenshtein's distance.
    private static func distance(_ left: String, _ right: String) -> Int {
        let right = Array(right)
        var row = Array(0...right.count)
        for (index, character) in left.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in right.indices {
                let above = row[column + 1]
                row[column + 1] = min(above + 1, row[column] + 1, diagonal + (character == right[column] ? 0 : 1))
                diagonal = above
            }
        }
        return row[right.count]
    }
}
