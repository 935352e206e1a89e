import Archive
import Compression
import Crypto
import FoundationEssentials
import Glibc
import ImageTree
import Inventory
import Linux
import Messages
import Registry
import Runtime

/// Targets for other programs: a tar, or an OCI image of one layer (OCI image specification).
struct Exports {
    let assembly: Assembly
    let options: BuildOptions
    let log: Log

    /// Written in a child that may have threads.
    /// - Parameter temporary: a directory of this build.
    func write(_ target: BuildTarget, temporary: String) throws {
        switch target {
        case .tar(let path):
            log.info("Creating tar...")
            try TarFile.write(
                assembly.finish().root, to: path, latestTime: options.image.latestTime, threads: options.image.writer.threads)
        case .ociLayout(let name):
            log.info("Creating OCI layout...")
            let (path, tag) = Self.split(name)
            let layout = UnfinishedDirectory.name(for: path)
            do {
                try writeLayout(layout, tag: tag, isNamed: path != name)
                try Self.publish(layout, path)
            } catch {
                Files.removeTree(layout)
                throw error
            }
        case .ociArchive(let name):
            log.info("Creating OCI archive...")
            let (path, tag) = Self.split(name)
            let layout = temporary + "/layout"
            try writeLayout(layout, tag: tag, isNamed: path != name)
            try TarFile.write(
                HostTree.read(layout, ownership: .recorded), to: path, .none, latestTime: options.image.latestTime ?? 0)
        default: throw BuildError.refused("\(target.path) is not an export")
        }
    }

    /// `path:tag`
    static func split(_ name: String) -> (path: String, tag: String) {
        guard let colon = name.lastIndex(of: ":"), !name[colon...].contains("/") else { return (name, "latest") }
        return (String(name[..<colon]), String(name[name.index(after: colon)...]))
    }

    private static func publish(_ layout: String, _ path: String) throws {
        if Files.status(path, followLinks: false) != nil { Files.removeTree(path) }
        guard rename(layout, path) == 0 else { throw SystemError.last("rename to \(path)") }
    }

    // MARK: The layout

    private struct Blob {
        var digest: String
        var size: Int
    }

    private static let manifestType = "application/vnd.oci.image.manifest.v1+json"

    /// - Parameter isNamed: the tag was asked for. Readers that are given none want a layout with one manifest.
    private func writeLayout(_ folder: String, tag: String, isNamed: Bool) throws {
        try Files.makeDirectories(folder + "/blobs/sha256")
        let (root, description, time) = try assembly.finish()
        let process = try OCIProcess(root)
        let (layer, diffID) = try writeLayer(root, folder)
        let created = CivilTime(time).rfc3339
        let labels = try InspectMetadata.labels("/.singularity.d/labels.json", root)
        let configuration = JSONValue.object([
            ("created", .string(created)), ("architecture", .string(description.architecture.name)), ("os", .string("linux")),
            (
                "config",
                .object([
                    ("Env", .array(process.environment.map { .string($0) })),
                    ("Entrypoint", .array([.string(ContainerFiles.ownRunscript)])),
                    ("Labels", .object(sorted: labels)),
                ])
            ),
            ("rootfs", .object([("type", .string("layers")), ("diff_ids", .array([.string(diffID)]))])),
            (
                "history",
                .array([.object([("created", .string(created)), ("created_by", .string("singularity build"))])])
            ),
        ])
        let config = try write(configuration, folder)
        let manifest = JSONValue.object([
            ("schemaVersion", .number(2)), ("mediaType", .string(Self.manifestType)),
            ("config", Self.descriptor(config, "application/vnd.oci.image.config.v1+json")),
            ("layers", .array([Self.descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip")])),
        ])
        let top = try write(manifest, folder)
        let referrers = isNamed && options.image.listsContents ? try writeBills(of: top, root, time: time, folder) : []
        let index = JSONValue.object([
            ("schemaVersion", .number(2)),
            (
                "manifests",
                .array(
                    [
                        .object([
                            ("mediaType", .string(Self.manifestType)), ("digest", .string(top.digest)),
                            ("size", .number(top.size)),
                            (
                                "platform",
                                .object([("architecture", .string(description.architecture.name)), ("os", .string("linux"))])
                            ),
                            ("annotations", .object([("org.opencontainers.image.ref.name", .string(tag))])),
                        ])
                    ] + referrers)
            ),
        ])
        try Files.replace(folder + "/index.json", with: Array(index.compact.utf8))
        try Files.replace(folder + "/oci-layout", with: Array("{\"imageLayoutVersion\":\"1.0.0\"}".utf8))
    }

    /// Lists of what is in the image, as artifacts that refer to it (OCI image specification 1.1, "Guidelines for artifact
    /// usage").
    /// - Returns: their entries in the index.
    private func writeBills(of image: Blob, _ root: Node, time: Int64, _ folder: String) throws -> [JSONValue] {
        let inventory = ImageInventory(root) { try TreePath.read($0, in: root) }
        let empty = try write(.object([]), folder)
        return try ImageDocuments.bills(inventory, seed: image.digest, time: time).map { bill in
            let type =
                switch bill.format {
                case .cycloneDXJSON: "application/vnd.cyclonedx+json"
                default: "application/spdx+json"
                }
            let manifest = try write(
                .object([
                    ("schemaVersion", .number(2)), ("mediaType", .string(Self.manifestType)), ("artifactType", .string(type)),
                    ("config", Self.descriptor(empty, "application/vnd.oci.empty.v1+json")),
                    ("layers", .array([Self.descriptor(try write(bill.bytes, folder), type)])),
                    ("subject", Self.descriptor(image, Self.manifestType)),
                ]), folder)
            return .object([
                ("mediaType", .string(Self.manifestType)), ("digest", .string(manifest.digest)), ("size", .number(manifest.size)),
                ("artifactType", .string(type)),
            ])
        }
    }

    private static func descriptor(_ blob: Blob, _ type: String) -> JSONValue {
        .object([("mediaType", .string(type)), ("digest", .string(blob.digest)), ("size", .number(blob.size))])
    }

    private func write(_ value: JSONValue, _ folder: String) throws -> Blob { try write(Array(value.compact.utf8), folder) }

    private func write(_ bytes: [UInt8], _ folder: String) throws -> Blob {
        let digest = SHA256.hash(data: bytes).hexadecimal
        try Files.replace("\(folder)/blobs/sha256/\(digest)", with: bytes)
        return Blob(digest: "sha256:" + digest, size: bytes.count)
    }

    /// The tree as a gzip-compressed tar, with the digests of both forms.
    private func writeLayer(_ root: Node, _ folder: String) throws -> (Blob, diffID: String) {
        let part = folder + "/layer.part"
        let file = try OwnedDescriptor.open(part, O_RDWR | O_CREAT | O_EXCL, mode: 0o644)
        let descriptor = file.rawValue
        var stored = SHA256()
        var size = 0
        var plain = SHA256()
        let compressor = try GzipWriter(threads: options.image.writer.threads) { bytes in
            stored.update(bufferPointer: bytes)
            size += bytes.count
            try Files.writeAll(bytes, to: descriptor, name: part)
        }
        let writer = try TarWriter(.none) { bytes in
            plain.update(bufferPointer: bytes)
            try compressor.write(bytes)
        }
        try TarSink(writer, latestTime: options.image.latestTime).write(root)
        try writer.finish()
        try compressor.finish()
        let digest = stored.finalize().hexadecimal
        guard rename(part, "\(folder)/blobs/sha256/\(digest)") == 0 else { throw SystemError.last("rename \(part)") }
        return (Blob(digest: "sha256:" + digest, size: size), "sha256:" + plain.finalize().hexadecimal)
    }
}

/// How another container engine starts the container.
private struct OCIProcess {
    /// `NAME=value` of the image's environment, as far as it is plain assignments.
    var environment: [String] = []

    init(_ root: Node) throws {
        var shell = ShellSubset(["PATH": EnvironmentPlan.defaultPath])
        let folder = "/.singularity.d/env"
        for (name, _) in TreePath.find(folder, in: root)?.directory?.sorted ?? [] {
            let name = String(decoding: name, as: UTF8.self)
            guard name < "94", let bytes = try TreePath.read("\(folder)/\(name)", in: root) else { continue }
            try? shell.source(String(decoding: bytes, as: UTF8.self))
        }
        environment = shell.variables.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
    }
}
