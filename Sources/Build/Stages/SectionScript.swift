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
