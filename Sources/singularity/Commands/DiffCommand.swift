import Build
import CommandSyntax
import ImageTree
import Linux
import Messages
import Persistence

let diffCommand = Command(
    spec: CommandSpec(
        "diff", arguments: "<old> [new]", summary: "Show what differs between two images or sandboxes, or what a commit would take",
        details: """
            Compares names, types, modes, owners, attributes and contents. A line begins with A for what only the second has,
            D for what only the first has, M for what differs, followed by what it is. The exit status is 0 where nothing
            differs and 1 where something does. With one image, it is compared with the changes in its writable partition, or in
            --overlay: what `commit` would take.
            """,
        examples: ["singularity diff old.sif new.sif", "singularity diff --json app.sif sandbox/"],
        options: [
            OptionSpec("json", "j", .flag, "print JSON"),
            OptionSpec("overlay", "o", .value("path"), "a directory or image file with changes of the image"),
            OptionSpec("times", nil, .flag, "modification times count too"),
        ] + EncryptionOptions.opening, argumentCount: 1...2)
) { parsed, log in
    if parsed.arguments.count == 2, parsed["overlay"] != nil { throw CommandError("--overlay is for one image: give no second one") }
    let ignoresTimes = !parsed.has("times")
    let changes: [TreeDiff.Change]
    if parsed.arguments.count == 1 {
        let overlay = try OverlayChanges(of: parsed.arguments[0], in: parsed["overlay"], keys: EncryptionOptions.keys(parsed), "diff")
        try overlay.enter()
        changes = try overlay.list(ignoresTimes: ignoresTimes)
    } else {
        changes = try ImageComparison.changes(
            from: parsed.arguments[0], to: parsed.arguments[1], ignoresTimes: ignoresTimes, keys: EncryptionOptions.keys(parsed))
    }
    if parsed.has("json") {
        let values = changes.map { change in
            JSONValue.object([
                ("change", .string(change.kind.rawValue)), ("path", .string(change.path)),
                ("details", .array(change.details.map { .string($0) })),
            ])
        }
        print(JSONValue.array(values).indented)
    } else {
        let letters = ["added": "A", "removed": "D", "changed": "M"]
        for change in changes {
            let details = change.details.isEmpty ? "" : " (\(change.details.joined(separator: ", ")))"
            print("\(letters[change.kind.rawValue] ?? "?") \(change.path)\(details)")
        }
    }
    return changes.isEmpty ? 0 : 1
}
