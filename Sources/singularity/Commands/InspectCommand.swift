import BlockIO
import Build
import CommandSyntax
import Linux
import Messages
import Runtime
import SIF

let inspectCommand = Command(
    spec: CommandSpec(
        "inspect", arguments: "<image>", summary: "Show what an image knows of itself",
        details: """
            Prints labels, scripts, environment, help or the definition of an image or sandbox, labels where nothing is asked
            for. Several can be asked for at once; with --json they are members of one object.
            """,
        examples: ["singularity inspect app.sif", "singularity inspect --deffile app.sif", "singularity inspect --all app.sif"],
        options: [
            OptionSpec("all", nil, .flag, "everything, as JSON"),
            OptionSpec("app", nil, .value("name"), "of this app"),
            OptionSpec("build-log", nil, .flag, "what the sections printed when the image was built"),
            OptionSpec("build-record", nil, .flag, "base, inputs and arguments that the image was built of, as JSON"),
            OptionSpec("deffile", "d", .flag, "the definition file"),
            OptionSpec("environment", "e", .flag, "scripts that set the environment"),
            OptionSpec("helpfile", "H", .flag, "the help text"),
            OptionSpec("json", "j", .flag, "print JSON"),
            OptionSpec("labels", "l", .flag, "labels (the default)"),
            OptionSpec("list-apps", nil, .flag, "names of the apps"),
            OptionSpec("provenance", nil, .flag, "how the image was made: an in-toto statement, as JSON"),
            OptionSpec("sbom", nil, .flag, "what is installed in the image: a bill of materials"),
            OptionSpec("format", nil, .value("name"), "with --sbom: spdx (default), cyclonedx or list"),
            OptionSpec("runscript", "r", .flag, "the run script"),
            OptionSpec("startscript", "s", .flag, "the start script"),
            OptionSpec("test", "t", .flag, "the test script"),
        ] + EncryptionOptions.opening, argumentCount: 1...1)
) { parsed, log in
    let path = parsed.arguments[0]
    if parsed.has("build-log") || parsed.has("build-record") {
        try printObject(parsed.has("build-log") ? "build.log" : "build.json", of: path)
        return 0
    }
    if parsed.has("provenance") {
        try printObject("provenance.json", of: path)
        return 0
    }
    if parsed.has("sbom") {
        try Materials.print(path, parsed["format"] ?? "spdx", keys: EncryptionOptions.keys(parsed))
        return 0
    }
    let keys = EncryptionOptions.keys(parsed)
    if let container = try withoutKey(keys, path) {
        try Inspection(parsed, container, path).print()
        return 0
    }
    let image: ImageFile
    do { image = try ImageFile.open(path, workingDirectory: Files.workingDirectory, keys: keys) } catch {
        throw CommandError("Failed to open image \(path): \(error)")
    }
    try Inspection(parsed, ContainerReader(image), path).print()
    return 0
}

let runHelpCommand = Command(
    spec: CommandSpec(
        "run-help", arguments: "<image>", summary: "Show the help text of an image",
        examples: ["singularity run-help app.sif"],
        options: [OptionSpec("app", nil, .value("name"), "of this app")], argumentCount: 1...1)
) { parsed, log in
    let path = parsed.arguments[0]
    let image = try ImageFile.open(path, workingDirectory: Files.workingDirectory)
    let inspection = Inspection(parsed, ContainerReader(image), path)
    print(try inspection.text("helpfile") ?? "No help sections were defined for this image")
    return 0
}

/// What an encrypted image says of itself in the clear, where no key was given.
private func withoutKey(_ keys: ImageKeys, _ path: String) throws -> ContainerReader? {
    guard let source = try? FileSource(path: path), SIFFile.isSIF(source) else { return nil }
    let file = try SIFFile(reading: source)
    guard let kind = file.primaryPartition?.partition?.fileSystem, kind.isEncrypted,
        try keys.load().isEmpty,
        let object = file.first(.genericJSON, named: "inspect-metadata.json"), object.size <= 16 << 20
    else { return nil }
    return ContainerReader(metadata: try source.bytes(at: UInt64(object.offset), count: Int(object.size)))
}

/// Prints a SIF's object of a name.
private func printObject(_ name: String, of path: String) throws {
    let source = try FileSource(path: path)
    guard SIFFile.isSIF(source) else { throw CommandError("\(path) is not a SIF file: only these keep how they were built") }
    let file = try SIFFile(reading: source)
    guard let object = file.descriptors.first(where: { $0.name == name }) else {
        throw CommandError("\(path) has no \(name): it was not built from a definition file by this program, or with SOURCE_DATE_EPOCH set")
    }
    let slice = try SliceSource(source, offset: UInt64(object.offset), size: UInt64(object.size))
    let bytes = try slice.bytes(at: 0, count: Int(slice.size))
    try Files.writeAll(name.hasSuffix("json") ? bytes + [0x0a] : bytes, to: 1, name: "standard output")
}

/// Prints parts of a container's description.
private struct Inspection {
    private let parsed: ParsedArguments
    private let container: ContainerReader
    private let path: String

    /// In the order in which they are printed.
    private static let order = ["deffile", "runscript", "startscript", "test", "helpfile", "environment", "labels"]

    init(_ parsed: ParsedArguments, _ container: ContainerReader, _ path: String) {
        self.parsed = parsed
        self.container = container
        self.path = path
    }

    func print() throws {
        if parsed.has("list-apps") {
            for app in try InspectMetadata.apps(container) { Swift.print(app) }
            return
        }
        let all = try attributes()
        let wanted = Set(Self.order.filter { parsed.has($0) })
        let isAll = parsed.has("all")
        let selected = isAll ? all : all.filter { wanted.isEmpty ? $0.key == "labels" : wanted.contains($0.key) }
        if isAll || parsed.has("json") {
            var members = selected
            if let app = parsed["app"] { members = [("apps", .object([(app, .object(selected))]))] }
            return Swift.print(InspectMetadata.wrapped(members).indented)
        }
        func rank(_ key: String) -> Int { Self.order.firstIndex(of: key) ?? Self.order.count }
        for (key, value) in selected.sorted(by: { rank($0.key) < rank($1.key) }) {
            guard case .object(let pairs) = value else {
                if case .string(let text) = value { Swift.print(text) }
                continue
            }
            for (name, value) in pairs {
                guard case .string(let text) = value else { continue }
                Swift.print(key == "labels" ? "\(name): \(text)" : "=== \(name) ===\n\(text)\n")
            }
        }
    }

    private func attributes() throws -> [(key: String, value: JSONValue)] {
        guard let app = parsed["app"] else { return try InspectMetadata(container).attributes }
        guard try InspectMetadata.apps(container).contains(app) else {
            throw CommandError("\(path) has no app \(app); --list-apps shows what it has")
        }
        return try InspectMetadata.app(app, container)
    }

    func text(_ key: String) throws -> String? {
        guard case .string(let text)? = try attributes().first(where: { $0.key == key })?.value else { return nil }
        return text
    }
}
