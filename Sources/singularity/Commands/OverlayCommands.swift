import CommandSyntax
import Glibc
import Linux
import Messages
import Persistence

/// What the commands of overlays and data containers share.
enum WritableImages {
    /// MiB where there is no unit, as the peers have it.
    static func size(_ text: String, _ option: String) throws -> UInt64 {
        if let number = UInt64(text), number < 1 << 40 { return number << 20 }
        guard let bytes = ByteCount.bytes(text), bytes > 0 else {
            throw CommandError("\(option) \(text): give a number of MiB, or one with a unit, such as 10G")
        }
        return bytes
    }

    /// States that are kept.
    static func printTable(_ states: [Snapshots.Snapshot]) {
        let rows = states.map { [$0.name, CivilTime($0.time).rfc3339, text($0.size)] }
        print(Instances.table([["NAME", "TIME", "ON DISK"]] + rows), terminator: "")
    }

    static func text(_ bytes: UInt64) -> String {
        var value = Double(bytes)
        for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
            if value < 1024 || unit == "TiB" {
                return unit == "B" ? "\(bytes) B" : "\(Int(value)).\(Int(value * 10) % 10) \(unit)"
            }
            value /= 1024
        }
        return ""
    }

    static let createOptions = [
        OptionSpec("size", "s", .value("MiB"), "size that it may grow to (default: as much as ever may be needed)", environment: ["SIZE"]),
        OptionSpec("create-dir", nil, .list("path"), "make a directory in it"),
        OptionSpec("fakeroot", "f", .flag, "for containers with --fakeroot: its files belong to root", environment: ["FAKEROOT"]),
        OptionSpec("ext3", nil, .flag, "make an ext3 file system, the only kind that Apptainer and SingularityCE take (grows to 64 GiB)"),
        OptionSpec("sparse", "S", .flag, "take no room before it is used (always so)", environment: ["SPARSE"]),
    ]

    static func settings(_ parsed: ParsedArguments, _ log: Log) throws -> OverlayPartition.Settings {
        var settings = OverlayPartition.Settings()
        settings.size = try parsed["size"].map { try size($0, "--size") }
        settings.directories = parsed.all("create-dir")
        settings.forFakeRoot = parsed.has("fakeroot")
        settings.isExt3 = parsed.has("ext3")
        settings.encryption = try EncryptionOptions.encryption(parsed, log)
        return settings
    }

    /// What is in one, where its key was given or none is needed.
    private static func usage(_ image: WritableImage, _ parsed: ParsedArguments) throws -> Maintenance.Usage? {
        let keys = EncryptionOptions.keys(parsed)
        if image.isLocked, try keys.load().isEmpty { return nil }
        return try Maintenance(image.path, keys: keys).usage()
    }

    static func usageText(_ path: String, _ parsed: ParsedArguments) throws -> String {
        let image = try WritableImage(path)
        let usage = try usage(image, parsed)
        var lines = [
            "File:         \(image.path)", "Kind:         \(image.kind.rawValue)\(image.isEncrypted ? ", encrypted" : "")",
            "Object:       \(image.object.map(String.init) ?? "none (the file is the file system)")",
            "May grow to:  \(text(image.size))",
        ]
        if let usage { lines.append("Used:         \(text(usage.used))") }
        lines.append("On disk:      \(text(image.usedSize))")
        if let usage { lines.append("Files:        \(usage.usedInodes) of \(usage.inodes)") }
        let rest =
            if let usage { usage.isClean ? "clean" : "not left cleanly: it is checked when it is used next" } else {
                "what is in it is shown with its key (--pem-path or --passphrase)"
            }
        lines.append("State:        " + (image.holder.map { "written by \($0.text)" } ?? rest))
        let snapshots = try Snapshots(path).list()
        if !snapshots.isEmpty { lines.append("Snapshots:    \(snapshots.map(\.name).joined(separator: ", "))") }
        return lines.joined(separator: "\n")
    }

    static func usageJSON(_ path: String, _ parsed: ParsedArguments) throws -> JSONValue {
        let image = try WritableImage(path)
        let usage = try usage(image, parsed)
        return .object([
            ("file", .string(image.path)), ("kind", .string(image.kind.rawValue)), ("encrypted", .bool(image.isEncrypted)),
            ("object", .number(Int(image.object ?? 0))), ("size", .number(Int(image.size))),
            ("used", usage.map { .number(Int($0.used)) } ?? .null), ("onDisk", .number(Int(image.usedSize))),
            ("clean", usage.map { .bool($0.isClean) } ?? .null), ("holder", .string(image.holder?.text ?? "")),
            ("snapshots", .array(try Snapshots(path).list().map { .string($0.name) })),
        ])
    }

    // MARK: What both groups have

    static func commands(_ group: String, _ noun: String) -> [Command] {
        let example = group == "data" ? "db.sif" : "image.sif"
        return [
            Command(
                spec: CommandSpec(
                    "\(group) info", arguments: "<image>", summary: "Show the size and state of \(noun)",
                    examples: ["singularity \(group) info \(example)"],
                    options: [OptionSpec("json", "j", .flag, "print JSON")] + EncryptionOptions.opening, argumentCount: 1...1)
            ) { parsed, _ in
                let path = parsed.arguments[0]
                if group == "data", let info = try DataContainer.info(path), !info.isWritable {
                    print(parsed.has("json") ? DataListing.json(info).indented : DataListing.text(info))
                    return 0
                }
                print(parsed.has("json") ? try usageJSON(path, parsed).indented : try usageText(path, parsed))
                return 0
            },
            Command(
                spec: CommandSpec(
                    "\(group) check", arguments: "<image>", summary: "Check the file system of \(noun)",
                    details: "Replays its journal and mends what can be mended without loss. The exit status is 1 where something is left.",
                    examples: ["singularity \(group) check \(example)"],
                    options: [OptionSpec("repair", nil, .flag, "mend all that is wrong, whatever may be lost")] + EncryptionOptions.opening,
                    argumentCount: 1...1)
            ) { parsed, _ in
                let result = try Maintenance(parsed.arguments[0], keys: EncryptionOptions.keys(parsed)).check(repairs: parsed.has("repair"))
                print(result.text, terminator: "")
                return result.isWell ? 0 : 1
            },
            Command(
                spec: CommandSpec(
                    "\(group) resize", arguments: "<image> <size>", summary: "Change the size that \(noun) may grow to",
                    details: "The size is in MiB, or has a unit. Nothing is taken from the disk by it.",
                    examples: ["singularity \(group) resize \(example) 2T"], options: EncryptionOptions.opening, argumentCount: 2...2)
            ) { parsed, _ in
                try Maintenance(parsed.arguments[0], keys: EncryptionOptions.keys(parsed)).resize(to: try size(parsed.arguments[1], "size"))
                return 0
            },
            Command(
                spec: CommandSpec(
                    "\(group) compact", arguments: "<image>", summary: "Give back room that no file of \(noun) needs",
                    examples: ["singularity \(group) compact \(example)"], options: EncryptionOptions.opening, argumentCount: 1...1)
            ) { parsed, log in
                let (before, after) = try Maintenance(parsed.arguments[0], keys: EncryptionOptions.keys(parsed)).compact()
                log.info("\(text(before)) before, \(text(after)) now")
                return 0
            },
            Command(
                spec: CommandSpec(
                    "\(group) snapshot", arguments: "<image> [name]", summary: "Keep the present state of \(noun)",
                    details:
                        "The state is kept in a directory beside the image, whose name ends in .snapshots. It takes no room where the file system shares blocks. Nobody may write meanwhile. Prints the name.",
                    examples: ["singularity \(group) snapshot \(example) before-upgrade"],
                    options: [
                        OptionSpec("list", "l", .flag, "list the states that are kept"),
                        OptionSpec("remove", nil, .flag, "remove the state of this name"),
                    ], argumentCount: 1...2)
            ) { parsed, _ in
                let snapshots = try Snapshots(parsed.arguments[0])
                let name = parsed.arguments.count > 1 ? parsed.arguments[1] : nil
                if parsed.has("list") {
                    printTable(try snapshots.list())
                } else if parsed.has("remove") {
                    guard let name else { throw CommandError("--remove: give the name of a snapshot") }
                    try snapshots.remove(name)
                } else {
                    print(try snapshots.take(name))
                }
                return 0
            },
            Command(
                spec: CommandSpec(
                    "\(group) restore", arguments: "<image> <name>", summary: "Go back to a state of \(noun) that was kept",
                    details: "What was changed since then is lost; the kept state stays.",
                    examples: ["singularity \(group) restore \(example) before-upgrade"], argumentCount: 2...2)
            ) { parsed, _ in
                try Snapshots(parsed.arguments[0]).restore(parsed.arguments[1])
                return 0
            },
        ]
    }
}

let overlayCommands =
    [
        Command(
            spec: CommandSpec(
                "overlay create", arguments: "<image>", summary: "Add a writable partition to a SIF, or make an overlay file",
                details: """
                    A SIF gets a partition that `exec --writable` and the like write to; the image itself stays as it is, and its
                    signatures stay valid. A name that is not there becomes a file for --overlay. No size needs to be guessed: the
                    partition takes the room that its files need, and may grow to 1 TiB. With --encrypt, --passphrase or --pem-path
                    nobody reads what is written to it without the key, which each command on it is given then.
                    """,
                examples: [
                    "singularity overlay create image.sif", "singularity overlay create --size 1024 changes.img",
                    "singularity overlay create --pem-path public.pem secret.sif",
                ],
                options: WritableImages.createOptions + EncryptionOptions.encryptingWritable, argumentCount: 1...1)
        ) { parsed, log in
            try OverlayPartition.create(parsed.arguments[0], WritableImages.settings(parsed, log))
            return 0
        },
        Command(
            spec: CommandSpec(
                "overlay list", arguments: "<image...>", summary: "List writable partitions", examples: ["singularity overlay list *.sif"],
                argumentCount: 1...Int.max)
        ) { parsed, log in
            var rows = [["IMAGE", "KIND", "USED", "ON DISK", "MAY GROW TO", "WRITTEN BY"]]
            for path in parsed.arguments {
                guard let image = try? WritableImage(path) else {
                    log.verbose("\(path) has no writable partition")
                    continue
                }
                let used = image.isLocked ? "encrypted" : WritableImages.text(try Maintenance(path).usage().used)
                rows.append([
                    path, image.kind.rawValue, used, WritableImages.text(image.usedSize), WritableImages.text(image.size),
                    image.holder?.text ?? "-",
                ])
            }
            print(Instances.table(rows), terminator: "")
            return 0
        },
        Command(
            spec: CommandSpec(
                "overlay discard", arguments: "<image or directory>", summary: "Throw all changes away",
                examples: ["singularity overlay discard image.sif"], options: EncryptionOptions.opening, argumentCount: 1...1)
        ) { parsed, _ in
            try OverlayPartition.discard(parsed.arguments[0], keys: EncryptionOptions.keys(parsed))
            return 0
        },
        Command(
            spec: CommandSpec(
                "overlay remove", arguments: "<image>", summary: "Take the writable partition out of a SIF, with all changes",
                examples: ["singularity overlay remove image.sif"], argumentCount: 1...1)
        ) { parsed, _ in
            try OverlayPartition.remove(parsed.arguments[0])
            return 0
        },
    ] + WritableImages.commands("overlay", "a writable partition")
