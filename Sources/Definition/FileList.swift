/// One line of `%files` or `%appfiles`.
public struct FileCopy: Sendable, Equatable {
    public var source: String
    /// Empty where it is that of the source.
    public var destination: String
    /// Line in the definition file, from 1.
    public var line: Int

    public init(source: String, destination: String, line: Int) {
        self.source = source
        self.destination = destination
        self.line = line
    }
}

extension Section {
    /// The lines of a list of files. Blanks inside quotes belong to a name.
    public var fileCopies: [FileCopy] {
        var out: [FileCopy] = []
        for (index, text) in body.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let number = index < bodyLines.count ? bodyLines[index] : line + index + 1
            if text.trimmed.isEmpty || text.trimmed.hasPrefix("#") { continue }
            let words = Self.words(text)
            guard let source = words.first else { continue }
            out.append(FileCopy(source: source, destination: words.count > 1 ? words[1] : "", line: number))
        }
        return out
    }

    /// `key value` lines of `%labels`: value trimmed, quotes kept.
    public var labels: [(key: String, value: String)] {
        body.split(separator: "\n").compactMap { line in
            let text = line.trimmed
            if text.isEmpty || text.hasPrefix("#") { return nil }
            let key = text.prefix { $0 != " " && $0 != "\t" }
            return (String(key), text.dropFirst(key.count).trimmed)
        }
    }

    private static func words(_ line: Substring) -> [String] {
        var out: [String] = []
        var current: String?
        var quote: Character?
        for character in line {
            if let open = quote {
                if character == open { quote = nil } else { current = (current ?? "") + String(character) }
            } else if character == "\"" || character == "'" {
                quote = character
                current = current ?? ""
            } else if character == " " || character == "\t" || character == "\r" {
                if let word = current { out.append(word) }
                current = nil
            } else {
                current = (current ?? "") + String(character)
            }
        }
        if let word = current { out.append(word) }
        return out
    }
}
