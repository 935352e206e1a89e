/// What an image shall be built of and what shall be done to it: one or several stages, of which the last is the image.
public struct DefinitionFile: Sendable {
    /// Name of the file.
    public var name: String
    /// With the values of build arguments in their places, as the image keeps it.
    public var text: String
    public var stages: [Stage]

    public struct Stage: Sendable {
        public var header: Header
        public var sections: [Section]

        public init(header: Header, sections: [Section]) {
            self.header = header
            self.sections = sections
        }

        /// The name that `%files from` uses.
        public var name: String? { header["stage"] }

        /// The first section of a kind.
        public func section(_ kind: Section.Kind, app: String = "") -> Section? {
            sections.first { $0.kind == kind && $0.app == app }
        }

        /// Names of the apps, in the order in which they first appear.
        public var apps: [String] {
            var names: [String] = []
            for section in sections where section.kind.isForApp && !names.contains(section.app) { names.append(section.app) }
            return names
        }
    }

    /// Reads a definition file.
    /// - Parameters:
    ///   - name: for messages.
    ///   - arguments: notes which of them were used.
    public init(_ text: String, name: String, arguments: inout BuildArguments) throws(DefinitionError) {
        self.name = name
        let source = SourceText(text, file: name)
        var stages: [Stage] = []
        var parts: [String] = []
        for lines in Self.stageLines(source) {
            guard let (stage, text) = try Self.stage(lines, source, &arguments) else { continue }
            stages.append(stage)
            parts.append(text)
        }
        guard !stages.isEmpty else { throw source.error("no stages found in definition file") }
        self.stages = stages
        self.text = parts.joined()
        try check(source)
    }

    /// A definition that stands for an address, such as `docker` and `debian:12`.
    public init(agent: String, from: String) {
        name = "\(agent):\(from)"
        text = "bootstrap: \(agent)\nfrom: \(from)\n\n"
        stages = [Stage(header: Header(agent: agent, from: from), sections: [])]
    }

    /// A stage begins at each line that begins with `bootstrap:`; what stands above the first one is one too.
    private static func stageLines(_ source: SourceText) -> [ArraySlice<SourceText.Line>] {
        var starts = [0]
        for (index, line) in source.lines.enumerated() where index > 0 && line.text.lowercased().hasPrefix("bootstrap:") {
            starts.append(index)
        }
        return starts.enumerated().map { number, start in
            source.lines[start..<(number + 1 < starts.count ? starts[number + 1] : source.lines.count)]
        }
    }

    /// - Returns: nil for a stage of nothing but comments.
    private static func stage(
        _ lines: ArraySlice<SourceText.Line>, _ source: SourceText, _ arguments: inout BuildArguments
    ) throws(DefinitionError) -> (Stage, text: String)? {
        let isEmpty = lines.allSatisfy { $0.isBlank || $0.text.trimmed.hasPrefix("#") }
        if isEmpty { return nil }
        let text = try arguments.substitute(source, lines, defaults: defaults(lines))
        // Values without newlines, which nearly all are, keep each line's number.
        let first = lines.first?.number ?? 1
        let filled = SourceText(text, file: source.file)
        let numbered = filled.lines.map { SourceText.Line(number: $0.number + first - 1, text: $0.text) }
        let end = numbered.firstIndex(where: \.startsSection) ?? numbered.count
        let header = try Header(numbered[..<end], in: source)
        let sections = try SectionParser(source: source).parse(numbered[end...])
        return (Stage(header: header, sections: sections), text)
    }

    /// Values of `%arguments`, read before anything is put in.
    private static func defaults(_ lines: ArraySlice<SourceText.Line>) -> [String: String] {
        var out: [String: String] = [:]
        var isInside = false
        for line in lines {
            if line.startsSection {
                isInside = line.firstWord.lowercased() == "%arguments"
            } else if isInside, let (name, value) = BuildArguments.parse(String(line.text)), !name.hasPrefix("#") {
                out[name] = value
            }
        }
        return out
    }

    private func check(_ source: SourceText) throws(DefinitionError) {
        for stage in stages {
            let entry = stage.header.entries.first { $0.key == "bootstrap" }
            guard let entry else {
                let line = stage.sections.first.flatMap { section in source.lines.first { $0.number == section.line } }
                let message = "no bootstrap specification found: a definition starts with \"Bootstrap: docker\" or another agent"
                throw line.map { source.error(message, $0) } ?? source.error(message)
            }
            try checkAgent(entry, source)
        }
        var names: Set<String> = []
        for stage in stages {
            for section in stage.sections {
                guard let wanted = section.sourceStage, !names.contains(wanted) else { continue }
                guard let line = source.lines.first(where: { $0.number == section.line }) else { continue }
                throw source.error(
                    "stage \(wanted) was not found: only stages above this one can be copied from", line, column: line.indentation + 1,
                    suggestion: NearestWord.of(wanted, in: Array(names)))
            }
            if let name = stage.name { names.insert(name) }
        }
    }

    /// All bootstrap agents.
    public static let agents = [
        "docker", "docker-daemon", "docker-archive", "oci", "oci-archive", "library", "oras", "shub", "localimage", "scratch",
        "debootstrap", "yum", "dnf", "zypper", "arch", "busybox", "dockerfile", "buildkit",
    ]

    private func checkAgent(_ entry: Header.Entry, _ source: SourceText) throws(DefinitionError) {
        guard !Self.agents.contains(entry.value) else { return }
        let message = "invalid build source \(entry.value)"
        let suggestion = NearestWord.of(entry.value.lowercased(), in: Self.agents)
        guard let line = source.lines.first(where: { $0.number == entry.line }) else { throw source.error(message) }
        let column = line.text.range(of: entry.value).map { line.text.distance(from: line.text.startIndex, to: $0.lowerBound) + 1 }
        throw source.error(message, line, column: column ?? 1, suggestion: suggestion)
    }
}

extension StringProtocol {
    fileprivate func range(of text: String) -> Range<Index>? { firstRange(of: text) }
}
