import Definition
import Runtime

/// A section as a script and the words that run it.
struct SectionScript {
    var text: String
    var program: [String]

    /// `%pre`, `%setup`, `%post`: run by `/bin/sh -ex`; what stands behind `-c` is a command line that gets the script.
    /// - Parameter path: of the script where it is run.
    init(_ section: Section, body: String, path: String) throws {
        let arguments = section.plainArguments
        // The first line is not the section's, so that an error can name a line of the section.
        text = SectionOutput.traceSetting + "\n" + body
        var words = arguments.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
        guard let index = words.firstIndex(of: "-c") else {
            program = ["/bin/sh", "-ex"] + words + [path]
            return
        }
        guard let range = arguments.firstRange(of: "-c") else { throw BuildError.refused("\(section.title): bad arguments") }
        let command = arguments[range.upperBound...].drop { $0 == " " || $0 == "\t" }
        guard !command.isEmpty else {
            throw BuildError.refused("\(section.title) (line \(section.line)): -c needs a command, such as -c /bin/bash")
        }
        words = Array(words[..<index])
        text = body
        program = ["/bin/sh", "-ex"] + words + ["-c", "\(command) \(path)"]
    }

    /// `%runscript`, `%startscript`, `%test`: a script of its own. The first line of the text that is not blank may name
    /// its interpreter.
    static func standalone(_ section: Section) -> String {
        var body = section.body
        var lines = body.split(separator: "\n", omittingEmptySubsequences: false)[...]
        while let first = lines.first, first.allSatisfy({ $0 == " " || $0 == "\t" }) { lines = lines.dropFirst() }
        var interpreter = "#!/bin/sh"
        if let first = lines.first, first.drop(while: { $0 == " " || $0 == "\t" }).hasPrefix("#!") {
            interpreter = String(first.drop { $0 == " " || $0 == "\t" })
            body = lines.dropFirst().joined(separator: "\n")
        }
        let arguments = section.plainArguments
        if !arguments.isEmpty { interpreter += " " + arguments }
        return interpreter + "\n\n" + body + "\n"
    }
}

/// The lines of a script with their places in the definition file, to say which of them has failed.
struct ScriptLines {
    /// Number in the file, 0 for a line that is not the file's, and text.
    private var lines: [(number: Int, text: String)] = []

    mutating func append(_ section: Section) {
        let texts = section.body.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        for (index, number) in section.bodyLines.enumerated() where index < texts.count { lines.append((number, texts[index])) }
    }

    /// Lines that are not the file's.
    mutating func append(_ text: String) {
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() { lines.append((0, String(line))) }
    }

    /// The line that was run last.
    /// - Returns: nil where that cannot be told for certain.
    func last(_ result: SectionOutput.Result) -> (number: Int, text: String)? {
        if let index = result.lastLine, lines.indices.contains(index - 1) { return lines[index - 1] }
        guard let command = result.lastCommand else { return nil }
        func trimmed(_ text: String) -> Substring { text.drop { $0 == " " || $0 == "\t" } }
        let exact = lines.filter { trimmed($0.text) == command }
        if exact.count == 1 { return exact[0] }
        // The trace shows words without quotes and with variables filled in.
        let word = command.prefix { $0 != " " }
        let begins = lines.filter { trimmed($0.text).prefix { $0 != " " } == word }
        return begins.count == 1 ? begins[0] : nil
    }
}
