/// A run script that was made from ENTRYPOINT and CMD of an OCI image, by this program or a peer: both begin with the
/// assignments of two variables that hold quoted words.
package struct OCIRunscript {
    private let entrypoint: String
    private let command: String

    /// Nil for any other script.
    package init?(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        func value(_ name: String) -> String? {
            guard let start = lines.firstIndex(where: { $0.hasPrefix(name + "=") }) else { return nil }
            // A value in quotes may go over several lines: the assignment ends where it can be evaluated.
            var assignment = ""
            for line in lines[start...].prefix(64) {
                assignment += line + "\n"
                var shell = ShellSubset()
                if (try? shell.source(assignment)) != nil { return shell.variables[name] }
            }
            return nil
        }
        guard let entrypoint = value("OCI_ENTRYPOINT"), let command = value("OCI_CMD") else { return nil }
        self.entrypoint = entrypoint
        self.command = command
    }

    /// The program and its arguments, nil where a shell is needed to tell.
    /// - Parameter arguments: take the place of CMD.
    package func words(arguments: [String], variables: [String: String], evaluates: Bool) -> [String]? {
        let shell = ShellSubset(variables)
        func split(_ text: String) -> [String]? {
            var words: [String] = []
            var rest = Substring(text)
            while true {
                rest = rest.drop { $0 == " " }
                guard rest.first == "\"" else { return rest.isEmpty ? words : nil }
                rest = rest.dropFirst()
                var inner = ""
                while let character = rest.popFirst(), character != "\"" {
                    inner.append(character)
                    if character == "\\", let next = rest.popFirst() { inner.append(next) }
                }
                guard let word = try? shell.expand(quoted: inner) else { return nil }
                words.append(word)
            }
        }
        guard let first = split(entrypoint) else { return nil }
        if arguments.isEmpty { return split(command).map { first + $0 } }
        var rest: [String] = []
        for argument in arguments {
            guard evaluates else {
                rest.append(argument)
                continue
            }
            guard let word = try? shell.expand(quoted: argument) else { return nil }
            rest.append(word)
        }
        return first + rest
    }
}
