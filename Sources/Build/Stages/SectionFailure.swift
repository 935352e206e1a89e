import Runtime

/// A section whose script has failed.
public struct SectionFailure: Sendable {
    public var file: String
    public var title: String
    /// Line of the section's name.
    public var line: Int
    public var status: Int32
    /// Line in the file that was run last, where the trace said it.
    public var lastLine: Int?
    /// Text of that line.
    public var text: String?
    /// The last lines that the section has printed.
    public var tail: [String]
    /// How it was run, and where its changes are.
    var run: SectionRun
    /// What it was run on.
    var tree: StageTree

    var sentence: String {
        let place = lastLine ?? line
        var out = "\(file):\(place): while running \(title) section: exit status \(status)"
        if let text { out += "\n  \(place) | \(text)" }
        return out
    }
}
