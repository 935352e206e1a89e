import BlockIO
import Build
import CommandSyntax
import Glibc
import Linux
import Messages
import Registry
import Trust

let pullCommand = Command(
    spec: CommandSpec(
        "pull", arguments: "[output] <address>", summary: "Fetch an image and make an image file of it",
        details: """
            Like build, for images of registries. Without an output name the file is called name_tag.sif. Layers are kept
            in a cache that any number of processes may use at once; an image that is named by digest and is in the cache
            is made without asking the network.
            """,
        examples: ["singularity pull docker://debian:12", "singularity pull --name deb.sif docker://debian:12"],
        options: ImageFetching.options + ImageWriting.options + [
            OptionSpec("dir", nil, .value("path"), "directory for the image", environment: ["PULLDIR", "PULLFOLDER"]),
            OptionSpec("name", nil, .value("file"), "name of the image file", environment: ["PULL_NAME"], hidden: true),
            OptionSpec("force", "F", .flag, "overwrite an image that is there", environment: ["FORCE"]),
            KeyStore.folderOption,
            OptionSpec(
                "verify", nil, .optionalValue("key|policy"),
                "keep the image only if it is signed: by a key of a keyring, by this key (fingerprint or PEM file), or as a policy asks",
                environment: ["VERIFY"]),
            OptionSpec("allow-unsigned", "U", .flag, "accepted for old scripts", aliases: ["allow-unauthenticated"], hidden: true),
        ], argumentCount: 1...2)
) { parsed, log in
    let address = parsed.arguments[parsed.arguments.count - 1]
    let source = ImageSource(address)
    if case .path = source {
        throw CommandError(
            "\(address) is not an image address; it begins with docker://, oci:, oci-archive: or docker-archive:, oras://, library:// or https://"
        )
    }
    var target = parsed.arguments.count == 2 ? parsed.arguments[0] : try parsed["name"] ?? defaultName(source)
    if let folder = parsed["dir"], !target.hasPrefix("/") { target = "\(folder)/\(target)" }
    if Files.isDirectory(target) { throw CommandError("\(target) is a directory; name the image file to be made") }
    if Files.status(target, followLinks: false) != nil, !parsed.has("force") {
        throw CommandError("image file already exists: \"\(target)\" - will not overwrite; use --force to overwrite it")
    }
    try ImageConversion(parsed, log).make(target, from: source)
    return 0
}

private func defaultName(_ source: ImageSource) throws -> String {
    switch source {
    case .docker(let name), .oras(let name): return try ImageReference(name).defaultFileName
    case .library(let name), .web(let name):
        let last = name.split(separator: "/").last.map(String.init) ?? name
        let file = last.prefix { $0 != "?" }.replacing(":", with: "_")
        return file.contains(".") ? String(file) : file + ".sif"
    case .ociLayout(let name), .ociArchive(let name), .dockerArchive(let name):
        let last = name.split(separator: "/").last.map(String.init) ?? name
        return (last.split(separator: ":").first.map(String.init) ?? last) + ".sif"
    default: return "image.sif"
    }
}

/// What `build`, `pull` and running an address have in common.
struct ImageConversion {
    private let parsed: ParsedArguments
    private let log: Log
    private let encryption: ImageEncryption?

    /// - Parameter encryption: of the image that ``make(_:from:)`` makes; what is in the cache is plain.
    init(_ parsed: ParsedArguments, _ log: Log, encryption: ImageEncryption? = nil) {
        self.parsed = parsed
        self.log = log
        self.encryption = encryption
    }

    /// Makes the image file; an older one stays until the new one is complete.
    func make(_ target: String, from source: ImageSource) throws {
        // A peer that closes its end is an error of the write, not the end of the program.
        signal(SIGPIPE, SIG_IGN)
        var options = try ImageWriting.options(parsed)
        options.encryption = encryption
        let fetch = try fetchOptions()
        defer { if parsed.has("disable-cache") { Files.removeTree(fetch.cacheFolder) } }
        let bar = ProgressBar(isShown: log.level >= .info)
        defer { bar.finish() }
        let verification = parsed["verify"].flatMap { $0 == "no" || $0 == "false" ? nil : $0 }
        if verification != nil, !source.isImageFile {
            throw CommandError(
                "--verify: images of this kind of address have no signatures that could be checked; pull a SIF (oras://, library:// or https://)"
            )
        }
        if source.isImageFile {
            let file = try ConvertedImage.path(of: source, in: RunnableImage.folder, fetch, options, observer: bar, log: log)
            if let verification { try check(file.path, verification, target) }
            return try Files.copy(file.path, to: target, mode: 0o755)
        }
        log.info("Starting build...")
        let image = try ImageOpener.open(source, fetch, observer: bar)
        if image.platform.architecture != fetch.pull.platform.architecture {
            log.warning("the image is for \(image.platform), not for \(fetch.pull.platform)")
        }
        log.info("Creating SIF file...")
        try image.build(target, options: options) { bar.stored(bytes: $0) }
    }

    /// Checks signatures before an image gets its name.
    private func check(_ path: String, _ request: String, _ target: String) throws {
        let keyring = KeyStore.keyring(parsed)
        let decision = PolicyDecision(try VerificationPolicy(request: request)) { OpenPGPSource(keyring, isSelective: true) }
        let place = target.hasPrefix("/") ? target : "\(Files.workingDirectory ?? "")/\(target)"
        let accepted = try decision.accept(try FileSource(path: path), path: place)
        for signer in accepted.signers { log.info("Signed by \(signer.openPGP?.name ?? signer.pemFingerprint ?? "")") }
    }

    /// An image file in the cache that is made of an address; made where it is not there yet.
    func cached(_ source: ImageSource, in folder: String) throws -> String {
        let bar = ProgressBar(isShown: log.level >= .info)
        defer { bar.finish() }
        return try ConvertedImage.path(
            of: source, in: folder, try fetchOptions(), try ImageWriting.options(parsed), observer: bar, log: log
        ).path
    }

    func fetchOptions() throws -> FetchOptions {
        var pull = PullOptions(platform: try ImageFetching.platform(parsed))
        pull.offline = parsed.has("offline")
        var folder = UserFolders.cache + "/blob"
        if parsed.has("disable-cache") {
            folder = "\(Environment["TMPDIR"] ?? "/tmp")/singularity-cache-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        }
        var options = FetchOptions(
            pull: pull, credentials: try ImageFetching.credentials(parsed), allowHTTP: parsed.has("no-https"),
            cacheFolder: folder, home: UserFolders.home)
        options.library = parsed["library"]
        options.siteFolder = Environment.setting("SITE_CACHE")
        return options
    }
}
