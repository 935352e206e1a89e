import Build
import CommandSyntax
import Glibc
import Linux
import Messages
import Persistence
import Runtime

/// Data containers for people and programs.
enum DataListing {
    static func json(_ one: DataContainer.Info) -> JSONValue {
        .object([
            ("file", .string(one.path)), ("writable", .bool(one.isWritable)), ("encrypted", .bool(one.isEncrypted)),
            ("size", .number(Int(one.size))), ("used", one.used.map { .number(Int($0)) } ?? .null), ("onDisk", .number(Int(one.onDisk))),
            ("holder", .string(one.holder ?? "")),
            ("clean", .bool(one.isClean)), ("snapshots", .array(one.snapshots.map { .string($0) })),
        ])
    }

    /// An immutable one.
    static func text(_ one: DataContainer.Info) -> String {
        "File:         \(one.path)\nKind:         data, immutable\(one.isEncrypted ? ", encrypted" : "")\nSize:         \(WritableImages.text(one.size))"
    }
}

let dataCommands =
    [
        Command(
            spec: CommandSpec(
                "data create", arguments: "<file>", summary: "Make an empty data container",
                details: """
                    A data container is a file with a file system that containers write to: `--data db.sif:/var/lib/postgresql`.
                    It takes the room that its files need, and may grow to 1 TiB. With --encrypt, --passphrase or --pem-path nobody
                    reads what is written to it without the key, which whoever uses it gives then.
                    """,
                examples: [
                    "singularity data create db.sif", "singularity instance start --data db.sif:/var/lib/postgresql pg.sif pg",
                    "singularity data create --pem-path public.pem patients.sif",
                ],
                options: WritableImages.createOptions + EncryptionOptions.encryptingWritable, argumentCount: 1...1)
        ) { parsed, log in
            try DataContainer.create(parsed.arguments[0], WritableImages.settings(parsed, log))
            return 0
        },
        Command(
            spec: CommandSpec(
                "data package", arguments: "<file> <directory>", summary: "Make an immutable data container of a directory or a file",
                details: "The two may also be given the other way round, the source first.",
                examples: ["singularity data package reference.sif genome/"],
                options: ImageWriting.options + EncryptionOptions.encrypting + [
                    OptionSpec("force", "F", .flag, "overwrite a file that is there", environment: ["FORCE"])
                ],
                argumentCount: 2...2)
        ) { parsed, log in
            var (target, source) = (parsed.arguments[0], parsed.arguments[1])
            if Files.isDirectory(target) || Files.status(source) == nil { swap(&target, &source) }
            guard Files.status(source) != nil else { throw CommandError("neither \(target) nor \(source) is there to be packaged") }
            try DataContainer.package(
                source, to: target, writer: try ImageWriting.options(parsed).writer, force: parsed.has("force"),
                encryption: try EncryptionOptions.encryption(parsed, log))
            return 0
        },
        Command(
            spec: CommandSpec(
                "data list", arguments: "[file or directory...]", summary: "List data containers",
                examples: ["singularity data list", "singularity data list /srv/data"],
                options: [OptionSpec("json", "j", .flag, "print JSON")],
                argumentCount: 0...Int.max)
        ) { parsed, _ in
            var paths: [String] = []
            for path in parsed.arguments.isEmpty ? ["."] : parsed.arguments {
                guard Files.isDirectory(path) else {
                    paths.append(path)
                    continue
                }
                paths += try Files.entries(path).sorted().map { path == "." ? $0 : "\(path)/\($0)" }
            }
            let all = paths.compactMap { try? DataContainer.info($0) }
            if parsed.has("json") {
                print(
                    JSONValue.array(
                        all.map(DataListing.json)
                    ).indented)
                return 0
            }
            print(
                Instances.table(
                    [["FILE", "KIND", "USED", "ON DISK", "SNAPSHOTS", "WRITTEN BY"]]
                        + all.map {
                            [
                                $0.path, $0.isWritable ? "writable" : "immutable", $0.used.map(WritableImages.text) ?? "encrypted",
                                WritableImages.text($0.onDisk),
                                "\($0.snapshots.count)", $0.holder ?? ($0.isClean ? "-" : "- (not left cleanly)"),
                            ]
                        }), terminator: "")
            return 0
        },
        Command(
            spec: CommandSpec(
                "data export", arguments: "<file> <target>", summary: "Write what is in a data container into a directory or a tar",
                examples: ["singularity data export db.sif directory/", "singularity data export db.sif db.tar.zst"],
                options: EncryptionOptions.opening, argumentCount: 2...2)
        ) { parsed, _ in
            try DataContainer.export(parsed.arguments[0], to: parsed.arguments[1], keys: EncryptionOptions.keys(parsed))
            return 0
        },
        Command(
            spec: CommandSpec(
                "data attach", arguments: "<instance> <file:directory[:ro]>", summary: "Mount a data container into an instance that runs",
                examples: ["singularity data attach web files.sif:/srv:ro"], options: [Instances.userOption] + EncryptionOptions.opening,
                argumentCount: 2...2)
        ) { parsed, log in
            let spec = try BindSpec.parse(data: parsed.arguments[1])
            try InstanceData(try Instances.running(parsed.arguments[0], parsed), try ConfigurationFile.load(), log).attach(
                spec, keys: EncryptionOptions.keys(parsed))
            return 0
        },
        Command(
            spec: CommandSpec(
                "data detach", arguments: "<instance> <directory>", summary: "Take a data container away from an instance that runs",
                details: "When it returns, all is on disk and the file may be copied.", examples: ["singularity data detach web /srv"],
                options: [
                    Instances.userOption,
                    OptionSpec("force", "f", .flag, "also while programs use it: they keep the files that they have open"),
                ], argumentCount: 2...2)
        ) { parsed, log in
            try InstanceData(try Instances.running(parsed.arguments[0], parsed), try ConfigurationFile.load(), log)
                .detach(parsed.arguments[1], isForced: parsed.has("force"))
            return 0
        },
    ] + WritableImages.commands("data", "a data container")
