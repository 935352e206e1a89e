/// The lines above the first section of a stage: where the stage starts from.
public struct Header: Sendable, Equatable {
    public struct Entry: Sendable, Equatable {
        /// In lower case.
        public var key: String
        public var value: String
        /// Line in the file, from 1; 0 for a header that no file has.
        public var line: Int
    }

    public var entries: [Entry]

    public init(entries: [Entry] = []) { self.entries = entries }

    /// A header that stands for an address, such as `docker` and `debian:12`.
    public init(agent: String, from: String) {
        entries = [Entry(key: "bootstrap", value: agent, line: 0), Entry(key: "from", value: from, line: 0)]
    }

    /// The value of a key in lower case; the last one counts.
    public subscript(_ key: String) -> String? { entries.last { $0.key == key }?.value }

    /// The bootstrap agent.
    public var agent: String { self["bootstrap"] ?? "" }

    /// All keys that a header may have; `otherurl` may have a number behind it.
    static let keys = [
        "bootstrap", "from", "stage", "includecmd", "mirrorurl", "updateurl", "osversion", "include", "library", "registry",
        "namespace", "product", "user", "regcode", "productpgp", "registerurl", "modules", "otherurl", "fingerprints", "setopt",
        "confurl", "target", "frontend", "filename", "buildargs",
    ]

    init(_ lines: ArraySlice<SourceText.Line>, in source: SourceText) throws(DefinitionError) {
        var entries: [Entry] = []
        var open: Entry?
        for line in lines {
            let text = line.text.prefix { $0 != "#" }.trimmed
            guard !text.isEmpty else {
                if let entry = open { entries.append(entry) }
                open = nil
                continue
            }
            var value: String
            if var entry = open {
                value = text
                open = Self.continued(&entry, &value)
                if open == nil { entries.append(entry) }
                continue
            }
            guard let colon = text.firstIndex(of: ":") else {
                throw source.error(
                    "header key \(text.prefix(40)) had no val: a header line is \"key: value\"", line, column: line.indentation + 1)
            }
            let key = text[..<colon].trimmed.lowercased()
            let plain = key.hasPrefix("otherurl") ? "otherurl" : key
            guard Self.keys.contains(plain), plain == key || key.dropFirst(8).allSatisfy(\.isNumber) else {
                throw source.error(
                    "invalid header keyword found: \(key)", line, column: line.indentation + 1,
                    suggestion: NearestWord.of(key, in: Self.keys))
            }
            value = text[text.index(after: colon)...].trimmed
            var entry = Entry(key: key, value: "", line: line.number)
            open = Self.continued(&entry, &value)
            if open == nil { entries.append(entry) }
        }
        if let open { entries.append(open) }
        for entry in entries where entry.value.isEmpty {
            let line = lines.first { $0.number == entry.line } ?? lines.first
            throw line.map { source.error("header key \(entry.key) had no val", $0, column: $0.indentation + 1) }
                ?? source.error("header key \(entry.key) had no val")
        }
        self.entries = entries
    }

    /// Adds a line to a value.
    /// - Returns: the entry where the next line belongs to it too.
    private static func continued(_ entry: inout Entry, _ text: inout String) -> Entry? {
        guard text.hasSuffix("\\") else {
            entry.value += text
            return nil
        }
        text.removeLast()
        // A written-out newline before the backslash stands for one.
        entry.value += text.hasSuffix("\\n") ? text.dropLast(2) + "\n" : text
        return entry
    }
}
