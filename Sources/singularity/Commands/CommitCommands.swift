import CommandSyntax
import Glibc
import Linux
import Messages
import Persistence

let commitCommands = [
    Command(
        spec: CommandSpec(
            "commit", arguments: "<image> [new image]", summary: "Merge an image and its changes into a new immutable image",
            details: """
                The changes are those of the image's own writable partition, or of --overlay. What did not change is copied as it is,
                compressed. The new image says in its history where it comes from. With --replace it takes the place of the old one,
                at once or not at all, and the overlay is empty then. Of an encrypted image the new one is encrypted too, and
                opens with the same keys.
                """,
            examples: ["singularity commit image.sif new.sif", "singularity commit --replace -m 'add numpy' --overlay changes/ image.sif"],
            options: [
                OptionSpec("overlay", "o", .value("path"), "a directory or image file with the changes"),
                OptionSpec("replace", nil, .flag, "put the new image in the place of the old one"),
                OptionSpec("keep", nil, .optionalValue("name"), "with --replace: keep the old image for `rollback`"),
                OptionSpec("message", "m", .value("text"), "what was changed, for the history"),
                OptionSpec("force", "F", .flag, "overwrite a file that is there", environment: ["FORCE"]),
            ] + EncryptionOptions.opening, argumentCount: 1...2)
    ) { parsed, log in
        let replaces = parsed.has("replace")
        if parsed.isGiven("keep"), !replaces { throw CommandError("--keep is for --replace: a new image leaves the old one as it is") }
        guard replaces == (parsed.arguments.count == 1) else {
            throw CommandError(replaces ? "--replace makes no new image: give one name" : "give a name for the new image, or --replace")
        }
        if !replaces, !parsed.has("force"), Files.status(parsed.arguments[1], followLinks: false) != nil {
            throw CommandError("\(parsed.arguments[1]) is there already; overwrite it with --force")
        }
        let changes = try OverlayChanges(of: parsed.arguments[0], in: parsed["overlay"], keys: EncryptionOptions.keys(parsed), "commit")
        let commit = Commit(changes, message: parsed["message"] ?? "", log)
        guard replaces else {
            try commit.write(parsed.arguments[1])
            return 0
        }
        let kept = try parsed["keep"].map { try FormerImages(parsed.arguments[0]).keep($0 == "yes" ? nil : $0) }
        do { try commit.replace() } catch {
            if let kept { try? FormerImages(parsed.arguments[0]).remove(kept) }
            throw error
        }
        return 0
    },
    Command(
        spec: CommandSpec(
            "rollback", arguments: "<image> [name]", summary: "Go back to an image that a commit has replaced",
            details: """
                Puts the image that `commit --replace --keep` has kept last, or the one of a name, in the place of the present one, at \
                once. The present one is kept, so that `rollback` again goes forward.
                """,
            examples: [
                "singularity commit --replace --keep image.sif", "singularity rollback image.sif", "singularity rollback --list image.sif",
            ],
            options: [
                OptionSpec("list", "l", .flag, "list what is kept, and change nothing"),
                OptionSpec("remove", nil, .flag, "remove what is kept under the name"),
            ], argumentCount: 1...2)
    ) { parsed, log in
        let former = try FormerImages(parsed.arguments[0])
        let name = parsed.arguments.dropFirst().first
        if parsed.has("list") {
            WritableImages.printTable(try former.list())
        } else if parsed.has("remove") {
            guard let name else { throw CommandError("--remove: give the name of a former image; --list shows them") }
            try former.remove(name)
        } else {
            let (restored, kept) = try former.rollBack(to: name)
            log.info("\(parsed.arguments[0]) is the image \(restored) again; what it was is kept as \(kept)")
        }
        return 0
    },
    Command(
        spec: CommandSpec(
            "history", arguments: "<image>", summary: "Show the commits that an image comes from",
            examples: ["singularity history new.sif"], options: [OptionSpec("json", "j", .flag, "print JSON")], argumentCount: 1...1)
    ) { parsed, _ in
        let history = try ImageHistory(parsed.arguments[0])
        if parsed.has("json") {
            print(history.json.indented)
            return 0
        }
        for entry in history.commits.reversed() {
            print("\(entry.time)  \(entry.author)  +\(entry.added) ~\(entry.changed) -\(entry.removed)")
            print("    \(entry.message.isEmpty ? "(no message)" : entry.message)")
            print("    of \(entry.name), root file system sha256:\(entry.parent)")
        }
        return 0
    },
    Command(
        spec: CommandSpec(
            "copy", arguments: "<image> <target>", summary: "Copy an image with its holes",
            details:
                "A writable partition takes no more room in the copy than in the original, and none where the file system shares blocks.",
            examples: ["singularity copy image.sif backup.sif"],
            options: [OptionSpec("force", "F", .flag, "overwrite a file that is there", environment: ["FORCE"])], argumentCount: 2...2)
    ) { parsed, log in
        var target = parsed.arguments[1]
        if Files.isDirectory(target) { target += "/" + (parsed.arguments[0].split(separator: "/").last.map(String.init) ?? "") }
        if !parsed.has("force"), Files.status(target, followLinks: false) != nil {
            throw CommandError("\(target) is there already; overwrite it with --force")
        }
        if let holder = (try? WritableImage(parsed.arguments[0]))?.holder {
            log.warning("\(parsed.arguments[0]) is being written by \(holder.text): the copy is as a power cut would leave it")
        }
        try SparseCopy.copy(parsed.arguments[0], to: target)
        return 0
    },
]
