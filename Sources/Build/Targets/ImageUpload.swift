import BlockIO
import Glibc
import Linux
import Messages
import Registry
import SIF

/// Puts images into registries.
public struct ImageUpload {
    private let reference: ImageReference
    private let options: FetchOptions
    private let observer: any PullObserver

    /// - Parameter name: of the image in the registry.
    public init(_ name: String, _ options: FetchOptions, observer: any PullObserver) throws {
        reference = try ImageReference(name)
        guard reference.digest == nil else {
            throw RegistryError.badReference(name, why: "a digest is what a registry answers; name a tag to push to")
        }
        (self.options, self.observer) = (options, observer)
    }

    private static let manifestType = MediaType.ociManifest

    /// Whether the registry can be reached and lets the caller write there. In a child: building an image afterwards takes a process
    /// without threads.
    /// - Throws: what the registry says against it.
    public func check(_ log: Log) throws {
        try BuildChild.run(log) { [reference, options] in
            let client = try options.registryClient()
            try Blocking.run { try await client.checkUpload(reference) }
            return []
        }
    }

    // MARK: A SIF as it is

    /// Stores a SIF file as an artifact of one layer, as it is.
    /// - Parameter annotations: of the manifest.
    /// - Returns: the digest of the manifest.
    public func push(sif path: String, annotations: [String: String]) throws -> Digest {
        let file = try SIFFile(reading: try FileSource(path: path))
        guard let system = file.primaryPartition, case .partition(_, _, let architecture) = system.detail, architecture != .unknown else {
            throw BuildError.badSource(path, why: "unknown architecture in SIF file: only images of containers are pushed")
        }
        let digest = try FileDigests(folder: options.cacheFolder + "/../build/digests").digest(of: path)
        guard let layer = Digest("sha256:" + digest), let status = Files.status(path) else { throw SystemError.last("stat \(path)") }
        let config = RegistryClient.UploadBlob(Array("{}".utf8))
        let title = path.split(separator: "/").last.map(String.init) ?? path
        var manifest: [(String, JSONValue)] = [
            ("schemaVersion", .number(2)), ("mediaType", .string(Self.manifestType)),
            ("config", Self.descriptor("application/vnd.sylabs.sif.config.v1+json", config.digest, Int(config.size))),
            (
                "layers",
                .array([
                    Self.descriptor(
                        RegistryClient.sifLayer, layer, Int(status.st_size), [("org.opencontainers.image.title", title)])
                ])
            ),
        ]
        if !annotations.isEmpty { manifest.append(("annotations", .object(sorted: annotations))) }
        let bytes = Array(JSONValue.object(manifest).compact.utf8)
        let blob = RegistryClient.UploadBlob(path: path, digest: layer, size: UInt64(status.st_size))
        try send([config, blob]) { [reference] client in
            try await client.push(manifest: bytes, mediaType: Self.manifestType, as: reference.tag, to: reference)
        }
        return Digest(of: bytes)
    }

    private static func descriptor(_ type: String, _ digest: Digest, _ size: Int, _ annotations: [(String, String)] = []) -> JSONValue {
        .object(
            [("mediaType", .string(type)), ("size", .number(size)), ("digest", .string("\(digest)"))]
                + (annotations.isEmpty ? [] : [("annotations", .object(annotations.map { ($0.0, .string($0.1)) }))]))
    }

    // MARK: An image of layers

    /// Stores the image of a layout, and what refers to it.
    /// - Parameter layout: a directory with one image.
    /// - Returns: the digest of the image's manifest.
    public func push(layout: String) throws -> Digest {
        let index = try ManifestDocument(
            try Files.read(layout + "/index.json", limit: ManifestDocument.largest), mediaType: nil, what: "index.json of \(layout)")
        guard case .index(let top) = index, let image = top.manifests.first else {
            throw BuildError.badSource(layout, why: "it has no image")
        }
        let digest = try image.checkedDigest("index.json of \(layout)")
        let manifests = try top.manifests.map { try Self.manifest($0, in: layout) }
        try send(manifests.flatMap(\.blobs)) { [reference] client in
            for (number, manifest) in manifests.enumerated() {
                let name = number == 0 ? reference.tag : "\(manifest.digest)"
                let isListed = try await client.push(
                    manifest: manifest.bytes, mediaType: Self.manifestType, as: name, to: reference)
                if number > 0, !isListed { try await client.addReferrer(manifest.descriptor, to: digest, in: reference) }
            }
        }
        return digest
    }

    private struct LayoutManifest: Sendable {
        var descriptor: BlobDescriptor
        var digest: Digest
        var bytes: [UInt8]
        var blobs: [RegistryClient.UploadBlob]
    }

    private static func manifest(_ descriptor: BlobDescriptor, in layout: String) throws -> LayoutManifest {
        let digest = try descriptor.checkedDigest("index.json of \(layout)")
        func path(_ digest: Digest) -> String { "\(layout)/blobs/\(digest.algorithm)/\(digest.hex)" }
        let bytes = try Files.read(path(digest), limit: ManifestDocument.largest)
        guard case .manifest(let manifest) = try ManifestDocument(bytes, mediaType: descriptor.mediaType, what: "\(digest)") else {
            throw BuildError.badSource(layout, why: "\(digest) is no manifest")
        }
        let blobs = try (manifest.layers + [manifest.config]).map { blob in
            let digest = try blob.checkedDigest("a manifest of \(layout)")
            return RegistryClient.UploadBlob(path: path(digest), digest: digest, size: UInt64(blob.size))
        }
        return LayoutManifest(descriptor: descriptor, digest: digest, bytes: bytes, blobs: blobs)
    }

    // MARK: Sending

    /// Sends blobs, and then what names them.
    private func send(
        _ blobs: [RegistryClient.UploadBlob], then finish: @escaping @Sendable (RegistryClient) async throws -> Void
    ) throws {
        let client = try options.registryClient()
        let (reference, observer) = (reference, observer)
        observer.willDownload(bytes: Int64(blobs.reduce(0) { $0 + $1.size }))
        try Blocking.run {
            for blob in blobs { try await client.push(blob, to: reference) { observer.downloaded(bytes: $0) } }
            try await finish(client)
            await client.shutdown()
        }
    }
}
