import Build
import CommandSyntax
import Definition
import Glibc
import Linux
import Messages
import Registry
import Runtime

let buildCommand = Command(
    spec: CommandSpec(
        "build", arguments: "<target> <source>", summary: "Build an image from a recipe, an address, an archive or a directory",
        details: """
            Makes one compressed, immutable SIF file, without root. The source is one of:
              file.def                                  a definition file
              docker://[registry/]name[:tag][@digest]   an image of a registry
              oci:directory[:tag]                       an OCI image layout
              oci-archive:file[:tag]                    an OCI image layout in a tar
              docker-archive:file[:name:tag]            what `docker save` writes
              docker-daemon:name[:tag]                  an image of a running Docker
              oras://registry/name[:tag]                a SIF of a registry
              library://entity/collection/name[:tag]    a SIF of a container library (--library)
              https://...                               an image file of a web server
              file.tar, .tar.gz, .tar.xz, .tar.zst, .tar.bz2
              image.sif, image.sqfs, image.img          an image, also of an old kind
              directory                                 a sandbox
            The target is a SIF file; with --sandbox a directory; a bare SquashFS file where its name ends in .sqfs or
            .squashfs or --format says so; oci:directory, oci-archive:file, or a tar where its name ends in .tar, .tar.gz or
            .tar.zst.

            What a section has changed is kept as a layer: the next build runs only from the first difference on.
            """,
        examples: [
            "singularity build app.sif app.def", "singularity build deb.sif docker://debian:12",
            "singularity build --verify-against app.sif app.def", "singularity build --sandbox dir/ deb.sif",
            "singularity build --build-arg VERSION=3 app.sif app.def",
        ],
        options: ImageFetching.options + ImageWriting.options + EncryptionOptions.making + Building.options, argumentCount: 1...2)
) { parsed, log in
    if let old = parsed["verify-against"] { return try Building(parsed, log).rebuild(old) }
    guard parsed.arguments.count == 2 else { throw ReportedFailure(message: "accepts 2 arg(s), received \(parsed.arguments.count)") }
    try Building(parsed, log).build(parsed.arguments[0], parsed.arguments[1])
    return 0
}

/// Options of `build`, and what they mean.
struct Building {
    static let options = [
        OptionSpec(
            "bind", "B", .array("src[:dest[:opts]]"), "show a path of the host to %post and %test", environment: ["BIND", "BINDPATH"]),
        OptionSpec("build-arg", nil, .array("name=value"), "value of {{ name }} in the definition file"),
        OptionSpec("build-arg-file", nil, .array("path"), "file with a name=value in each line"),
        OptionSpec("fakeroot", "f", .flag, "accepted; sections always run as root of a user namespace", environment: ["FAKEROOT"]),
        OptionSpec("fix-perms", nil, .flag, "make all of a sandbox readable and writable for its owner", environment: ["FIXPERMS"]),
        OptionSpec("force", "F", .flag, "overwrite a target, and labels and help of a base", environment: ["FORCE"]),
        OptionSpec("format", nil, .value("name"), "sif, sqfs, sandbox, oci, oci-archive or tar (default: by the target's name, or sif)"),
        OptionSpec("ignore-subuid", nil, .flag, "record owners although there are ranges in /etc/subuid", environment: ["IGNORE_SUBUID"]),
        OptionSpec("json", nil, .flag, "print progress as JSON lines on standard output", environment: ["JSON"]),
        OptionSpec(
            "keep-failed", nil, .flag, "keep the stage of a failed section as a sandbox", aliases: ["no-cleanup"],
            environment: ["NO_CLEANUP"]),
        OptionSpec("mount", nil, .array("spec"), "show a path of the host: type=bind,src=...,dst=...[,ro]", environment: ["MOUNT"]),
        OptionSpec("no-layer-cache", nil, .flag, "run every section and keep no layer", environment: ["NO_LAYER_CACHE"]),
        OptionSpec("notest", "T", .flag, "leave %test out", environment: ["NOTEST"]),
        OptionSpec("nv", nil, .flag, "show the files of NVIDIA's driver to %post and %test", environment: ["NV"]),
        OptionSpec("nvccli", nil, .flag, "as --nv", environment: ["NVCCLI"]),
        OptionSpec("rocm", nil, .flag, "show the files of AMD's driver to %post and %test", environment: ["ROCM"]),
        OptionSpec(
            "package-cache", nil, .flag, "keep what package managers download for the next build of this recipe, and out of the image",
            environment: ["PACKAGE_CACHE"]),
        OptionSpec(
            "reproducible", nil, .flag, "set times of what sections make back to the base's, so that each build gives the same bytes",
            environment: ["REPRODUCIBLE"]),
        OptionSpec("resume", nil, .flag, "go on behind the last section that succeeded (always done; fails with --no-layer-cache)"),
        OptionSpec("sandbox", "s", .flag, "make a directory", environment: ["SANDBOX"]),
        OptionSpec("section", nil, .list("names"), "run only these sections", environment: ["SECTION"]),
        OptionSpec("shell-on-error", nil, .flag, "open a shell in the stage of a failed section"),
        OptionSpec("update", "u", .flag, "run the sections on a sandbox that is there", environment: ["UPDATE"]),
        OptionSpec("userns", nil, .flag, "accepted; a user namespace is always used without root", environment: ["USERNS"]),
        OptionSpec(
            "verify-against", nil, .value("image"),
            "build again, and say whether the result is this image: status 0 for the same, 1 with the first differences"),
        OptionSpec("warn-unused-build-args", nil, .flag, "unused build arguments are a warning, not an error"),
        OptionSpec("writable-tmpfs", nil, .flag, "%test may write, into memory", environment: ["WRITABLE_TMPFS"]),
    ]

    private let parsed: ParsedArguments
    private let log: Log

    init(_ parsed: ParsedArguments, _ log: Log) {
        self.parsed = parsed
        self.log = log
    }

    /// Builds a source again and compares the result with an image; the result is kept where a target was named.
    /// - Returns: 0 for the same, 1 otherwise.
    func rebuild(_ old: String) throws -> Int32 {
        // Files that the sections make get the time that they had at most.
        if Environment["SOURCE_DATE_EPOCH"] == nil { setenv("SOURCE_DATE_EPOCH", "\(try RebuildComparison.buildTime(of: old))", 1) }
        let source = parsed.arguments[parsed.arguments.count - 1]
        let isKept = parsed.arguments.count == 2
        let target =
            isKept
            ? parsed.arguments[0] : "\(Self.temporaryFolder(parsed))/singularity-rebuild-\(getpid())-\(UInt32.random(in: 0 ... .max)).sif"
        defer { if !isKept { unlink(target) } }
        try build(target, source, keepsLayers: false)
        let differences = try RebuildComparison(old, target).differences
        if differences.isEmpty {
            print("same: \(source) gives \(old)")
            return 0
        }
        print("different: \(source) does not give \(old)")
        for difference in differences { print("  \(difference)") }
        return 1
    }

    /// - Parameter keepsLayers: sections whose result is known do not run again.
    func build(_ targetName: String, _ sourceName: String, keepsLayers: Bool = true) throws {
        let target = try target(targetName)
        var arguments = try buildArguments()
        let source = try source(sourceName, &arguments)
        if parsed.has("resume"), parsed.has("no-layer-cache") {
            throw CommandError("--resume goes on from kept layers, and --no-layer-cache keeps none: leave one out")
        }
        let encryption = try EncryptionOptions.encryption(parsed, log)
        if encryption != nil {
            guard case .sif = target else {
                throw CommandError("--encrypt: only SIF files can be encrypted; leave --format, --sandbox and the name's ending out")
            }
        }
        try check(target)
        if case .address(let address) = source, case .sif(let path) = target, !parsed.has("update"), !address.isImageFile {
            // Nothing runs in it, so it goes from the registry to the file in one stream.
            try ImageConversion(parsed, log, encryption: encryption).make(path, from: address)
        } else {
            var (options, given) = try options()
            options.keyring = KeyStore.keyring(parsed)
            options.sourceKeys = EncryptionOptions.sourceKeys(parsed)
            options.image.encryption = encryption
            // Kept layers would be what is encrypted, in the clear.
            if encryption != nil || !keepsLayers { options.usesLayerCache = false }
            if case .squashFS = target, Files.isDirectory(sourceName), !Files.isDirectory(sourceName + "/.singularity.d") {
                options.isData = true
            }
            // Sections may take hours: what is wrong with the target is said before they run.
            try checkFolder(target.path)
            let definition = source.definition
            var build = DefinitionBuild(
                definition, options, arguments: given, observer: ProgressBar(isShown: log.level >= .info), log: log)
            try build.build(target, update: parsed.has("update"))
        }
        log.info("Build complete: \(target.path)")
    }

    // MARK: Target

    private func target(_ name: String) throws -> BuildTarget {
        let isSandbox = parsed.has("sandbox") || parsed.has("update")
        var path = name
        var format = parsed["format"] ?? (isSandbox ? "sandbox" : "")
        if isSandbox, format != "sandbox" { throw CommandError("--sandbox makes a directory, --format \(format) does not: leave one out") }
        for scheme in ["oci-archive", "oci"] where format.isEmpty && name.hasPrefix(scheme + ":") {
            format = scheme
            path = String(name.dropFirst(scheme.count + 1))
            if path.hasPrefix("//") { path.removeFirst(2) }
        }
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        if format.isEmpty {
            if path.hasSuffix(".sqfs") || path.hasSuffix(".squashfs") { format = "sqfs" }
            if [".tar", ".tar.gz", ".tgz", ".tar.zst"].contains(where: path.hasSuffix) { format = "tar" }
        }
        switch format {
        case "", "sif": return .sif(path)
        case "sqfs", "squashfs": return .squashFS(path)
        case "sandbox": return .sandbox(path)
        case "oci": return .ociLayout(path)
        case "oci-archive": return .ociArchive(path)
        case "tar": return .tar(path)
        default: throw CommandError("--format \(format): choose sif, sqfs, sandbox, oci, oci-archive or tar")
        }
    }

    private func checkFolder(_ path: String) throws {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        guard Files.isDirectory(folder.isEmpty ? "/" : folder) else {
            throw CommandError("\(path): there is no directory \(folder); create it first")
        }
    }

    private func check(_ target: BuildTarget) throws {
        let path = target.path
        let isThere = Files.status(path, followLinks: false) != nil
        if parsed.has("update") {
            guard Files.isDirectory(path) else { throw CommandError("--update: there is no sandbox \(path)") }
            return
        }
        guard isThere else { return }
        if case .sandbox = target {
            if Files.resolved(path) == "/" || path == UserFolders.home { throw CommandError("\(path) cannot be replaced by a sandbox") }
            if !Files.isDirectory(path) { throw CommandError("\(path) is a file; name a directory for the sandbox") }
        } else if Files.isDirectory(path), target != .ociLayout(path) {
            throw CommandError("\(path) is a directory; name the image file to be made, or use --sandbox")
        }
        if parsed.has("force") { return }
        guard isatty(0) != 0, isatty(2) != 0 else { throw BuildError.targetExists(path) }
        Program.printError(
            "Build target '\(path)' already exists and will be deleted during the build process. Do you want to continue? [N/y] ")
        guard let answer = readLine(), answer.lowercased() == "y" else { throw BuildError.targetExists(path) }
    }

    // MARK: Source

    private enum Source {
        case address(ImageSource)
        case definition(DefinitionFile)

        var definition: DefinitionFile {
            switch self {
            case .definition(let definition): definition
            case .address(let address): DefinitionFile(agent: address.agent, from: address.name)
            }
        }
    }

    private func source(_ name: String, _ arguments: inout BuildArguments) throws -> Source {
        let address = ImageSource(name)
        guard case .path(let path) = address else { return .address(address) }
        guard let status = Files.status(path) else {
            throw CommandError(
                "\(path) does not exist; an address begins with docker://, oci:, oci-archive:, docker-archive: or docker-daemon:")
        }
        let kind = status.st_mode & S_IFMT
        if kind == S_IFDIR {
            guard Files.resolved(path) != "/" else { throw CommandError("/ cannot be built from") }
            return .definition(DefinitionFile(agent: "localimage", from: path))
        }
        guard kind == S_IFREG else { throw CommandError("\(path) is neither a file nor a directory") }
        if try LocalFile.isImageOrArchive(path) { return .definition(DefinitionFile(agent: "localimage", from: path)) }
        let bytes = try Files.read(path, limit: 16 << 20)
        guard !bytes.contains(0) else {
            throw CommandError("\(path) is not a definition file, an image, or an archive that is known")
        }
        let definition = try DefinitionFile(String(decoding: bytes, as: UTF8.self), name: path, arguments: &arguments)
        let unused = arguments.unused.sorted().joined(separator: ", ")
        if !unused.isEmpty {
            guard parsed.has("warn-unused-build-args") else {
                throw CommandError(
                    "unused build args: \(unused): \(path) asks for none of these; --warn-unused-build-args makes a warning of it")
            }
            log.warning("unused build args: \(unused)")
        }
        return .definition(definition)
    }

    private func buildArguments() throws -> BuildArguments {
        let (fromFiles, given) = try givenArguments()
        return BuildArguments(fromFiles: fromFiles, given: given)
    }

    private typealias Values = [(name: String, value: String)]

    private func givenArguments() throws -> (fromFiles: Values, given: Values) {
        var fromFiles: Values = []
        for path in parsed.all("build-arg-file") {
            let (values, bad) = BuildArguments.parse(lines: try Files.readText(path))
            for line in bad { log.warning("\(path): skipped a line that is not NAME=value: \(line)") }
            fromFiles += values
        }
        let given = try parsed.all("build-arg").map { text in
            guard let value = BuildArguments.parse(text) else { throw CommandError("--build-arg \(text): give NAME=value") }
            return value
        }
        return (fromFiles, given)
    }

    // MARK: Options

    private func options() throws -> (BuildOptions, arguments: [String: String]) {
        let conversion = ImageConversion(parsed, log)
        let limit = try layerLimit()
        var options = BuildOptions(
            image: try ImageWriting.options(parsed),
            hasWriterOptions: ["compression", "level", "block-size", "mksquashfs-args"].contains { parsed[$0] != nil },
            fetch: try conversion.fetchOptions(), convertedFolder: RunnableImage.folder,
            layers: LayerCache(UserFolders.cache + "/build", limit: limit), temporaryFolder: Self.temporaryFolder(parsed))
        options.usesLayerCache = !parsed.has("no-layer-cache")
        options.reproducibility = try reproducibility()
        options.keepsNothing = parsed.has("disable-cache")
        if parsed.has("package-cache") { options.packageFolder = UserFolders.cache + "/packages" }
        options.drivers = DriverBinds(nvidia: parsed.has("nv") || parsed.has("nvccli"), rocm: parsed.has("rocm"))
        for warning in options.drivers.warnings { log.warning(warning) }
        options.runsTests = !parsed.has("notest")
        options.keepsFailed = parsed.has("keep-failed")
        options.shellOnError = parsed.has("shell-on-error")
        options.force = parsed.has("force")
        options.ignoresRanges = parsed.has("ignore-subuid")
        options.fixesPermissions = parsed.has("fix-perms")
        options.reportsJSON = parsed.has("json")
        options.showsPrefix = isatty(1) != 0 && isatty(2) != 0
        for text in parsed.all("bind") { options.binds += try BindSpec.parse(text) }
        for text in parsed.all("mount") { options.binds += try BindSpec.parse(mount: text) }
        if let image = options.binds.first(where: { $0.imagePath != nil }) {
            throw CommandError("--bind \(image.source): sections of a build can see files and directories, not the inside of images")
        }
        for index in options.binds.indices where !options.binds[index].source.hasPrefix("/") {
            options.binds[index].source = "\(Files.workingDirectory ?? "")/\(options.binds[index].source)"
        }
        options.sections = try sections()
        let (fromFiles, given) = try givenArguments()
        return (options, Dictionary((fromFiles + given).map { ($0.name, $0.value) }) { _, new in new })
    }

    /// The option has its way over the configuration, also where it says no.
    private func reproducibility() throws -> BuildOptions.Reproducibility {
        if parsed.isGiven("reproducible") { return parsed.has("reproducible") ? .always : .never }
        switch try ConfigurationFile.load()["reproducible builds"] {
        case "yes": return .always
        case "no": return .never
        default: return .ofPinnedRecipes
        }
    }

    private func sections() throws -> Set<String>? {
        let names = parsed.all("section")
        if names.isEmpty { return nil }
        let known = Set(Section.Kind.allCases.filter { !$0.isForApp }.map(\.rawValue)).union(["all", "none"])
        for name in names where !known.contains(name) {
            throw CommandError("--section \(name): choose of \(known.sorted().joined(separator: ", "))")
        }
        return Set(names)
    }

    private func layerLimit() throws -> UInt64 {
        guard let text = Environment.setting("LAYER_CACHE_LIMIT") else { return LayerCache.defaultLimit }
        guard let bytes = ByteCount.bytes(text) else {
            throw CommandError("SINGULARITY_LAYER_CACHE_LIMIT=\(text) is not a size, such as 20G")
        }
        return bytes
    }

    /// Where changes of sections come together: on a disk, as they may be many.
    static func temporaryFolder(_ parsed: ParsedArguments) -> String {
        if let folder = parsed["tmpdir"] { return folder }
        if let folder = Environment["TMPDIR"], !folder.isEmpty { return folder }
        return Files.isOnMemory("/tmp") && Files.isDirectory("/var/tmp") ? "/var/tmp" : "/tmp"
    }
}
