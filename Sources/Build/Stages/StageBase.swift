import BlockIO
import Definition
import Glibc
import ImageTree
import Linux
import Messages
import Registry
import Runtime
import Trust

/// What a stage starts from.
struct StageBase {
    /// A SIF, SquashFS file or directory; nil for an empty root or for a bootstrap tool's work.
    var path: String?
    var identity: BaseIdentity
    /// For the record: name and digest of the base image.
    var name: String
    /// The stage starts with a container of this kind, whose own definition becomes history.
    var isContainer: Bool
    /// Makes the first layer, where a tool does.
    var tool: BootstrapTool?
    /// The open file that ``path`` leads to, where its signatures were checked: what is checked is what is used.
    var verified: SharedDescriptor?
}

/// Finds what a header asks for.
struct BaseFinder {
    let options: BuildOptions
    /// Of the stages before: a file is hashed once.
    let earlier: [StageBase]
    let observer: any PullObserver
    /// For a base that is made of an archive.
    let temporary: String
    let log: Log

    func find(_ header: Header) throws -> StageBase {
        let agent = header.agent
        guard let fingerprints = header["fingerprints"] else { return try unchecked(header) }
        let signers = try fingerprints.split(separator: ",").map { text in
            guard let digits = OpenPGPKey.identifier(String(text), lengths: [40]) else {
                throw BuildError.refused("Fingerprints: \(text) is not a fingerprint of 40 digits")
            }
            return digits
        }
        let base: StageBase
        switch agent {
        case "localimage", "library", "oras": base = try verified(try unchecked(header), signers)
        case "docker": base = try verifiedOfRegistry(try name(header), signers)
        default:
            throw BuildError.refused(
                "Fingerprints: a base of bootstrap: \(agent) has no signatures that could be checked; sign a SIF of it and use bootstrap: localimage"
            )
        }
        log.info("The base is signed by \(fingerprints)")
        return base
    }

    /// An image of a registry, by the digest that was signed.
    private func verifiedOfRegistry(_ name: String, _ signers: [String]) throws -> StageBase {
        guard let keyring = options.keyring else { throw BuildError.refused("Fingerprints: there is no keyring") }
        let digest = try BuildChild.run(log) {
            do {
                return Array(try SignedRegistryImage(name, options.fetch).digest(signedByAllOf: signers, keyring).utf8)
            } catch let error as BuildError { throw error } catch { throw BuildError.refused("Fingerprints: \(error)") }
        }
        let plain = name.prefix { $0 != "@" }
        return try converted("docker", "\(plain)@\(String(decoding: digest, as: UTF8.self))", alias: ("docker", name))
    }

    /// - Parameter fingerprints: of the keys that must have signed the base.
    private func verified(_ base: StageBase, _ fingerprints: [String]) throws -> StageBase {
        var base = base
        guard let path = base.path, let keyring = options.keyring else { throw BuildError.refused("Fingerprints: the base is no image") }
        let signers = fingerprints.map { TrustedSigner.openPGP($0) }
        let file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK))
        do {
            let decision = PolicyDecision(VerificationPolicy(signedByAllOf: signers)) { OpenPGPSource(keyring, isSelective: true) }
            try decision.accept(try FileSource(file, name: path), path: path)
        } catch { throw BuildError.refused("Fingerprints: \(error)") }
        base.verified = file
        base.path = "/proc/self/fd/\(file.rawValue)"
        return base
    }

    private func unchecked(_ header: Header) throws -> StageBase {
        let agent = header.agent
        switch agent {
        case "docker", "docker-archive", "oci", "oci-archive", "docker-daemon": return try converted(agent, try name(header))
        case "library", "oras":
            return try converted(agent, try from(header), library: header["library"])
        case "localimage":
            let name = try from(header)
            if case .web = ImageSource(name) { return try converted("", name) }
            return try local(name)
        case "dockerfile", "buildkit":
            let archive = "\(temporary)/dockerfile.tar"
            try DockerfileBuild(header).write(archive)
            // Its name stays the same from build to build, as its layers do.
            return try converted("oci-archive", archive, alias: (agent, header["from"] ?? ""))
        case "scratch": return StageBase(path: nil, identity: .known("scratch"), name: "scratch", isContainer: false)
        case "debootstrap", "yum", "dnf", "zypper", "arch", "busybox":
            let tool = try BootstrapTool(header)
            return StageBase(path: nil, identity: .known(tool.identity), name: agent, isContainer: false, tool: tool)
        default:
            throw BuildError.refused("the bootstrap agent \(agent) is not supported by this version")
        }
    }

    private func from(_ header: Header) throws -> String {
        guard let from = header["from"] else {
            throw BuildError.refused("bootstrap: \(header.agent) needs a line \"From: ...\"")
        }
        return from
    }

    /// `From` with `Registry` and `Namespace` before it.
    private func name(_ header: Header) throws -> String {
        let from = try from(header)
        guard header.agent == "docker" else { return from }
        return [header["registry"], header["namespace"], from].compactMap { $0 }.joined(separator: "/")
    }

    // MARK: Images of others

    private func converted(_ agent: String, _ name: String, library: String? = nil, alias: (agent: String, from: String)? = nil) throws
        -> StageBase
    {
        let isFile = ["library", "oras"].contains(agent)
        let source = ImageSource(agent.isEmpty ? name : isFile ? "\(agent)://\(name)" : "\(agent):\(name)")
        var fetch = options.fetch
        if let library { fetch.library = library }
        // Fetching and compressing need threads; sections need a process without any.
        let result = try BuildChild.run(log) {
            let image = try ConvertedImage.path(
                of: source, in: options.convertedFolder, fetch, options.image, alias: alias, observer: observer, log: log)
            return Array("\(image.path)\n\(image.identity)".utf8)
        }
        let lines = String(decoding: result, as: UTF8.self).split(separator: "\n").map(String.init)
        return StageBase(
            path: lines[0], identity: .known("converted \(lines[1])"), name: agent.isEmpty ? name : "\(agent):\(name)",
            isContainer: source.isImageFile)
    }

    private func local(_ path: String) throws -> StageBase {
        guard let status = Files.status(path) else {
            throw BuildError.badSource(path, why: "the base image of bootstrap: localimage does not exist")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            // A directory can change without a trace, so layers over it are named by a listing of it.
            return StageBase(path: path, identity: .known(try DirectoryFingerprint.of(path)), name: path, isContainer: true)
        }
        if let same = earlier.first(where: { $0.path == path }) { return same }
        let digests = options.layers.digests
        if let kind = try FileKind.of(path), kind != .image { return try unpacked(path, kind, try digests.digest(of: path)) }
        if let plain = try decrypted(path, digests) { return plain }
        return StageBase(path: path, identity: try identity(of: path, status, digests), name: path, isContainer: true)
    }

    /// There can be no layers over a content that nobody has seen: the build goes on while it is hashed. Where another build hashes
    /// it, there may be some in a moment.
    private func identity(of path: String, _ status: stat, _ digests: FileDigests) throws -> BaseIdentity {
        if status.st_size >= Self.large, digests.willRemember(status), !digests.mayKnow(contentOf: status),
            let lease = digests.begin(status)
        {
            return .hashed(try FileHashing(path, digests, lease))
        }
        return .known("sha256:\(try digests.digest(of: path))")
    }

    /// Bytes of a file whose hashing is felt.
    private static let large = 32 << 20
}

extension BaseFinder {
    /// An encrypted image, whose file system is decrypted for the time of the build; nil for a plain one.
    private func decrypted(_ path: String, _ digests: FileDigests) throws -> StageBase? {
        let opened = try ImageFile.open(path, workingDirectory: Files.workingDirectory, keys: options.sourceKeys)
        guard opened.isEncrypted, case .squashFS(let image, _, _, _) = opened.content else { return nil }
        let digest = try digests.digest(of: path)
        let file = "\(temporary)/base-\(digest.prefix(16)).sqfs"
        let output = try OutputFile(file, mode: 0o600)
        try image.source.read(0..<image.source.size) { try Files.writeAll($0, to: output.descriptor, name: file) }
        try output.commit()
        return StageBase(path: file, identity: .known("sha256:\(digest)"), name: path, isContainer: true)
    }

    /// An archive or an image of an old kind, made a SquashFS file for the time of the build.
    private func unpacked(_ path: String, _ kind: FileKind, _ digest: String) throws -> StageBase {
        let file = "\(temporary)/base-\(digest.prefix(16)).sqfs"
        if Files.status(file) == nil {
            try BuildChild.run(log) {
                try ArchiveConversion(path: path, options: options.image).write(kind, to: file)
                return []
            }
        }
        return StageBase(path: file, identity: .known("sha256:\(digest)"), name: path, isContainer: true)
    }
}

/// Names the state of a directory by names, times and sizes of all that is in it.
enum DirectoryFingerprint {
    static func of(_ folder: String) throws -> String {
        var key = LayerKey(base: "directory")
        var pending = [folder]
        while let path = pending.popLast() {
            var lines: [String] = []
            for name in try Files.entries(path).sorted() {
                let child = path + "/" + name
                guard let status = Files.status(child, followLinks: false) else { continue }
                lines.append(
                    "\(name) \(status.st_mode) \(status.st_ino) \(status.st_size) \(status.st_ctim.tv_sec).\(status.st_ctim.tv_nsec)")
                if status.st_mode & S_IFMT == S_IFDIR { pending.append(child) }
            }
            key = key.appending(lines)
        }
        return key.text
    }
}

/// An image file in the cache that is made of an address.
public enum ConvertedImage {
    /// The file; made where it is not there yet.
    /// - Parameters:
    ///   - folder: of all such files.
    ///   - alias: agent and name that the image's own description has, in the place of the source's.
    public static func path(
        of source: ImageSource, in folder: String, _ fetch: FetchOptions, _ options: ImageOptions,
        alias: (agent: String, from: String)? = nil, observer: any PullObserver, log: Log
    ) throws -> (path: String, identity: String) {
        // A peer that closes its end is an error of the write, not the end of the program.
        signal(SIGPIPE, SIG_IGN)
        var options = options
        options.encryption = nil
        if source.isImageFile { return try FetchedImage.path(of: source, fetch, observer: observer) }
        var image = try ImageOpener.open(source, fetch, observer: observer)
        if let alias { (image.agent, image.from) = alias }
        let identity = try image.identity
        let target = "\(folder)/\(identity).sif"
        try Files.makeDirectories(folder, mode: 0o700)
        // Several ranks of a job may start at once: one makes the image, the others wait.
        _ = try Lease.makeOnce(target + ".lease", isThere: { Files.status(target) != nil }) { lease in
            log.info("Converting \(image.from) to SIF format...")
            try image.build(target, options: options) { bytes in
                observer.stored(bytes: bytes)
                lease.renew()
            }
        }
        return (target, identity)
    }
}
