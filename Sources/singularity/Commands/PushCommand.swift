import Build
import CommandSyntax
import Glibc
import Linux
import Messages
import Registry

let pushCommand = Command(
    spec: CommandSpec(
        "push", arguments: "<image> <address>", summary: "Put an image into a registry",
        details: """
            oras://registry/name[:tag] stores a SIF file as it is, with its signatures, for `pull oras://`. docker://registry/name[:tag]
            makes an image of one layer of any image, SIF or directory, which Docker, podman and others run, with the lists of
            what is in it as artifacts that refer to it.

            A blob that the registry has is not sent again. Logins are those of `singularity registry login`, docker and podman.
            """,
        examples: [
            "singularity push app.sif oras://registry.example.org/lab/app:1.0", "singularity push app.sif docker://ghcr.io/lab/app:1.0",
        ],
        options: ImageFetching.loginOptions + [
            OptionSpec("description", "D", .value("text"), "description of the image in the registry (oras://)"),
            OptionSpec("annotation", nil, .array("name=value"), "annotation of the image in the registry (oras://)"),
            OptionSpec("allow-unsigned", "U", .flag, "accepted; registries take any image", environment: ["ALLOW_UNSIGNED"]),
        ], argumentCount: 2...2)
) { parsed, log in
    let (path, address) = (parsed.arguments[0], parsed.arguments[1])
    guard Files.status(path) != nil else { throw CommandError("\(path) does not exist; name an image file") }
    // A peer that closes its end is an error of the write, not the end of the program.
    signal(SIGPIPE, SIG_IGN)
    switch ImageSource(address) {
    case .oras(let name): try Pushing(parsed, log).pushFile(path, to: name)
    case .docker(let name): try Pushing(parsed, log).pushLayers(path, to: name)
    case .library:
        throw CommandError(
            "\(address): container libraries take images by an interface of their own; push to a registry with oras:// or docker://")
    default: throw CommandError("\(address) is no address to push to; it begins with oras:// or docker://")
    }
    return 0
}

private struct Pushing {
    private let parsed: ParsedArguments
    private let log: Log

    init(_ parsed: ParsedArguments, _ log: Log) { (self.parsed, self.log) = (parsed, log) }

    private func upload(_ name: String, _ bar: ProgressBar) throws -> ImageUpload {
        try ImageUpload(name, try ImageConversion(parsed, log).fetchOptions(), observer: bar)
    }

    private func report(_ digest: Digest) {
        log.info("Digest: \(digest)")
        log.info("Upload complete")
    }

    /// oras://
    func pushFile(_ path: String, to name: String) throws {
        var annotations: [String: String] = [:]
        for text in parsed.all("annotation") {
            guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
                throw CommandError("--annotation \(text): give NAME=value")
            }
            annotations[String(text[..<equals])] = String(text[text.index(after: equals)...])
        }
        if let description = parsed["description"] { annotations["org.opencontainers.image.description"] = description }
        guard !Files.isDirectory(path) else {
            throw CommandError("\(path) is a directory; build a SIF of it, or push it to docker://, which makes layers")
        }
        let bar = ProgressBar(isShown: log.level >= .info, verb: "upload")
        defer { bar.finish() }
        report(try upload(name, bar).push(sif: path, annotations: annotations))
    }

    /// docker://
    func pushLayers(_ path: String, to name: String) throws {
        guard parsed["description"] == nil, parsed.all("annotation").isEmpty else {
            throw CommandError("--description and --annotation are for oras://; labels of the image go along to docker://")
        }
        // What is wrong with the name is said before the image is made.
        let bar = ProgressBar(isShown: log.level >= .info, verb: "upload")
        let upload = try upload(name, bar)
        try upload.check(log)
        let folder = "\(Building.temporaryFolder(parsed))/singularity-push-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try Files.makeDirectories(folder, mode: 0o700)
        defer { Files.removeTree(folder) }
        try Building(parsed, log).build("oci:\(folder)/layout:latest", path)
        defer { bar.finish() }
        report(try upload.push(layout: folder + "/layout"))
    }
}
