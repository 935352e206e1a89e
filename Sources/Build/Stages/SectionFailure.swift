import Runtime

/// A section whose script has failed.
public struct SectionFailure: Sendable {
    public var file: String
    public var title: String
    /// Line of the section's name.
    public var line: Int
    public var status: Int32
    /// The line that was run last, where that is certain.
    public var last: (number: Int, text: String)?
    /// The command that was run last, as the shell's trace shows it.
    public var command: String?
    /// How it was run, and where its changes are.
    var run: SectionRun
    /// What it was run on.
    var tree: StageTree

    var sentence: String {
        let place = last.map { $0.number > 0 ? $0.number : line } ?? line
        var out = "\(file):\(place): while running \(title) section: exit status \(status)"
        if let last, last.number > 0 {
            out += "\n  \(last.number) | \(last.text)"
        } else if let command {
            out += "\n  the last command was: \(command)"
        }
        return out
    }
}
