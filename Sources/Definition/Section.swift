/// One `%section` of a stage.
public struct Section: Sendable, Equatable {
    public enum Kind: String, Sendable, CaseIterable {
        case help, setup, files, labels, environment, pre, post, runscript, test, startscript, arguments
        case appinstall, applabels, appfiles, appenv, apptest, apphelp, apprun, appstart

        /// Needs the name of an app.
        public var isForApp: Bool { rawValue.hasPrefix("app") }
    }

    public var kind: Kind
    /// Of an app's section.
    public var app: String
    /// What stands behind the name of the section.
    public var arguments: String
    /// All lines below, as they are, each with its newline.
    public var body: String
    /// Line of the section's name, from 1.
    public var line: Int
    /// Line of each line of ``body``: sections of one name, which are one, may stand far apart.
    public var bodyLines: [Int] = []

    public init(kind: Kind, app: String = "", arguments: String, body: String, line: Int) {
        self.kind = kind
        self.app = app
        self.arguments = arguments
        self.body = body
        self.line = line
    }

    /// The arguments without a comment.
    public var plainArguments: String { arguments.prefix { $0 != "#" }.trimmed }

    /// For messages: `%post`, `%appinstall foo`.
    public var title: String { "%\(kind.rawValue)" + (app.isEmpty ? "" : " \(app)") }

    /// The stage that `%files from STAGE` names.
    public var sourceStage: String? {
        guard kind == .files else { return nil }
        let words = plainArguments.split(separator: " ")
        return words.count >= 2 && words[0].lowercased() == "from" ? String(words[1]) : nil
    }
}

/// Cuts lines into sections.
struct SectionParser {
    let source: SourceText

    /// - Parameter lines: the first of them starts a section.
    func parse(_ lines: ArraySlice<SourceText.Line>) throws(DefinitionError) -> [Section] {
        var sections: [Section] = []
        var invalid: [SourceText.Line] = []
        for line in lines {
            guard line.startsSection else {
                // Lines below an unknown name belong to nothing, and are reported with it.
                if invalid.isEmpty || sections.last.map({ $0.line > (invalid.last?.number ?? 0) }) ?? false {
                    sections[sections.count - 1].body += line.text + "\n"
                    sections[sections.count - 1].bodyLines.append(line.number)
                }
                continue
            }
            guard let section = try section(line) else {
                invalid.append(line)
                continue
            }
            sections.append(section)
        }
        if let first = invalid.first {
            let names = invalid.map { String($0.firstWord.dropFirst()) }
            let word = String(first.firstWord.dropFirst()).lowercased()
            throw source.error(
                "invalid section(s) specified: \(names.joined(separator: ", "))", first, column: first.indentation + 1,
                suggestion: NearestWord.of(word, in: Section.Kind.allCases.map(\.rawValue)).map { "%" + $0 })
        }
        return Self.joined(sections)
    }

    private func section(_ line: SourceText.Line) throws(DefinitionError) -> Section? {
        let word = line.firstWord
        guard let kind = Section.Kind(rawValue: word.dropFirst().lowercased()) else { return nil }
        let rest = line.text.drop { $0 == " " || $0 == "\t" }.dropFirst(word.count).dropFirst()
        guard kind.isForApp else { return Section(kind: kind, app: "", arguments: String(rest), body: "", line: line.number) }
        let name = rest.trimmed.prefix { $0 != " " }
        guard !name.isEmpty, name.first != "#" else {
            throw source.error(
                "%\(kind.rawValue) could not be split into section name and app name: give the app's name, %\(kind.rawValue) NAME", line,
                column: line.indentation + 1 + word.count)
        }
        guard !name.contains("/"), name != ".", name != ".." else {
            throw source.error("\"\(name)\" cannot be the name of an app", line, column: line.indentation + 2 + word.count)
        }
        return Section(
            kind: kind, app: String(name), arguments: String(rest.trimmed.dropFirst(name.count)).trimmed, body: "", line: line.number)
    }

    /// Sections of the same name are one: their texts follow one another, and the last one's arguments count. Files from
    /// different stages stay apart.
    private static func joined(_ sections: [Section]) -> [Section] {
        var out: [Section] = []
        for section in sections {
            let index = out.firstIndex {
                $0.kind == section.kind && $0.app == section.app && (section.kind != .files || $0.arguments == section.arguments)
            }
            if let index {
                out[index].body += section.body
                out[index].bodyLines += section.bodyLines
                out[index].arguments = section.arguments
            } else {
                out.append(section)
            }
        }
        return out
    }
}
