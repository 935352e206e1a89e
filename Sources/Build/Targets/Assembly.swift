import Definition
import FoundationEssentials
import Glibc
import ImageTree
import Linux
import Messages
import Runtime
import SIF
import SquashFS

/// Writes the finished stage as the target. Everything here is done in a child that may have threads.
struct Assembly {
    let stage: StageBuild
    let options: BuildOptions
    let arguments: [String: String]
    let isUpdate: Bool
    let log: Log

    /// The finished tree, and what stands beside it in a SIF.
    func finish() throws -> (root: Node, description: SIFTarget.Description, time: Int64) {
        let root = try stage.tree.merged(stage.ownership)
        let time = options.image.latestTime ?? Self.newestTime(root)
        if options.isData {
            return (root, .init(definition: "", metadata: .object([]), architecture: .unknown), time)
        }
        let architecture = ElfArchitecture.of(root) ?? Architecture(name: options.fetch.pull.platform.architecture) ?? .host
        if architecture.name != options.fetch.pull.platform.architecture {
            log.verbose("the image's programs are for \(architecture), not for \(options.fetch.pull.platform.architecture)")
        }
        try StageDescription(
            definition: stage.definition, stage: stage.stage, base: stage.base, architecture: architecture.name, time: time,
            force: options.force, runs: options.runs, isUpdate: isUpdate, warn: { log.warning($0) }
        ).write(into: root)
        var description = SIFTarget.Description(
            definition: stage.definition.text, metadata: try InspectMetadata(root).json, architecture: architecture)
        description.time = time
        description.record = {
            let (base, inputs) = (try stage.base.identity.text, try inputs())
            return ([("build.json", .genericJSON, Array(record(base, inputs).compact.utf8))], provenance(base, inputs))
        }
        // What programs print is not the same twice.
        if options.image.latestTime == nil || options.keepsLog, let text = buildLog() {
            description.objects.append(("build.log", .generic, text))
        }
        return (root, description, time)
    }

    /// The newest time of a file that does not lie in the future.
    private static func newestTime(_ root: Node) -> Int64 {
        let now = Int64(time(nil))
        var newest: Int64 = 0
        var pending = [root]
        while let node = pending.popLast() {
            let time = node.attributes.modificationTime
            if time > newest && time <= now { newest = time }
            if let directory = node.directory { pending += directory.children.values }
        }
        return newest
    }

    /// A file or directory of the host that went into the image, and the digest of a file.
    private typealias Input = (path: String, sha256: String?)

    private func inputs() throws -> [Input] {
        let digests = options.layers.digests
        return try stage.inputs.sorted().map { path in
            let isFile = Files.status(path).map { $0.st_mode & S_IFMT == S_IFREG } ?? false
            return (path, isFile ? try digests.digest(of: path) : nil)
        }
    }

    /// What the image was made of.
    private func record(_ base: String, _ inputs: [Input]) -> JSONValue {
        .object([
            ("tool", .string("singularity \(ProgramVersion.text)")),
            ("base", .object([("name", .string(stage.base.name)), ("digest", .string(base))])),
            ("arguments", .object(sorted: arguments)),
            ("inputs", .array(inputs.map { .object([("path", .string($0.path)), ("sha256", .string($0.sha256 ?? ""))]) })),
        ])
    }

    /// The same as a statement that other programs understand.
    private func provenance(_ base: String, _ inputs: [Input]) -> Provenance {
        let dependencies =
            [Provenance.Dependency(uri: stage.base.name, name: "base", digest: base.hasPrefix("sha256:") ? base : nil)]
            + inputs.map { Provenance.Dependency(uri: "file:\($0.path)", name: "input", digest: $0.sha256.map { "sha256:\($0)" }) }
        return Provenance(definition: stage.definition.text, arguments: arguments, dependencies: dependencies)
    }

    private func buildLog() -> [UInt8]? {
        var out: [UInt8] = []
        for (title, path) in stage.logs {
            guard let text = try? Files.read(path, limit: 64 << 20) else { continue }
            out += Array("==> \(title)\n".utf8) + text
        }
        return out.isEmpty ? nil : out
    }

    private func writer(at time: Int64) -> ImageOptions {
        var image = options.image
        image.writer = stage.writerOptions
        image.writer.modificationTime = UInt32(clamping: time)
        return image
    }

    /// Writes a SIF to a file that has no name yet.
    func writeSIF(_ output: OutputFile) throws {
        let (root, description, time) = try finish()
        let target = SIFTarget(output, options: writer(at: time))
        try target.write(description) { _ in root }
    }

    /// Writes a bare SquashFS to a file that has no name yet.
    func writeSquashFS(_ output: OutputFile) throws {
        let (root, _, time) = try finish()
        let image = writer(at: time)
        let writer = try ImageWriter(output.descriptor, options: image.writer, name: output.path)
        var sink = SquashFSSink(writer, latestTime: image.latestTime)
        _ = try sink.write(root)
    }

    /// Writes a directory.
    func writeSandbox(_ path: String) throws {
        let root = try finish().root
        let sink = SandboxSink(
            path, asRoot: getuid() == 0 && stage.identity == .root, latestTime: options.image.latestTime,
            widensFiles: options.fixesPermissions)
        try sink.write(root, threads: stage.writerOptions.threads)
        if !options.keepsNothing {
            SandboxOrigins.remember(Array(sink.unpacked), of: path, in: options.originFolder, excluding: stage.temporary.path)
        }
        if sink.hasLostOwners {
            log.warning("\(path) is on a file system without extended attributes: files of other users have become yours in it")
        }
    }
}
