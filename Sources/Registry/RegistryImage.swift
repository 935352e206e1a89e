import BlockIO
import Linux

/// An image of a registry, with its layers on their way into the cache.
public struct RegistryImage: Sendable {
    public var reference: ImageReference
    /// Of the manifest that was chosen, in an index or by itself.
    public var manifestDigest: Digest
    public var configuration: ImageConfiguration
    public var platform: Platform
    /// From the oldest to the newest.
    public var layers: [BlobDownload]
}

/// How an image is looked for.
public struct PullOptions: Sendable {
    public var platform: Platform
    /// Never asks the network.
    public var offline = false
    /// Blobs that are received at once.
    public var parallelDownloads = 4

    public init(platform: Platform) { self.platform = platform }
}

/// Told how a pull goes on; may be called from any thread.
public protocol PullObserver: Sendable {
    /// All blobs together have so many bytes.
    func willDownload(bytes: Int64)
    func downloaded(bytes: Int)
    /// So many plain bytes of files went into the image so far.
    func stored(bytes: UInt64)
}

extension PullObserver {
    public func stored(bytes: UInt64) {}
}

extension RegistryClient {
    /// What a name stands for at this moment: the manifest for a platform, and the index that it was chosen from.
    public func digests(
        _ reference: ImageReference, cache: BlobCache, options: PullOptions
    ) async throws -> (manifest: Digest, index: Digest) {
        let (_, digest, top) = try await chosen(reference, cache: cache, options: options)
        return (digest, top)
    }

    private func chosen(
        _ reference: ImageReference, cache: BlobCache, options: PullOptions
    ) async throws -> (manifest: ImageManifest, digest: Digest, top: Digest) {
        let top = try await document(reference, cache: cache, options: options)
        var digest = top.digest
        var document = try ManifestDocument(top.bytes, mediaType: top.mediaType, what: "the manifest of \(reference)")
        var depth = 0
        while case .index(let index) = document {
            depth += 1
            guard depth < 4 else { throw RegistryError.badDocument(what: "\(reference)", why: "its indexes are nested too deep") }
            let child = try index.choose(options.platform, reference: "\(reference)")
            digest = try child.checkedDigest("the index of \(reference)")
            let bytes = try await documentBytes(digest, reference, cache: cache, options: options)
            document = try ManifestDocument(
                bytes.bytes, mediaType: bytes.mediaType ?? child.mediaType, what: "manifest \(digest) of \(reference)")
        }
        guard case .manifest(let manifest) = document else { throw RegistryError.badDocument(what: "\(reference)", why: "no manifest") }
        return (manifest, digest, top.digest)
    }

    /// Finds an image and starts to fetch its layers.
    ///
    /// An image that is named by digest and whose parts are all in the cache causes no request at all.
    public func open(
        _ reference: ImageReference, cache: BlobCache, options: PullOptions, observer: any PullObserver
    ) async throws -> RegistryImage {
        let (manifest, digest, _) = try await chosen(reference, cache: cache, options: options)
        for layer in manifest.layers where !MediaType.isLayer(layer.mediaType ?? "") {
            throw RegistryError.badDocument(
                what: "\(reference)", why: "it has a layer of the type \(layer.mediaType ?? "(none)"), which is not a container layer")
        }
        guard !manifest.layers.isEmpty else {
            throw RegistryError.badDocument(what: "\(reference)", why: "no extractable OCI/Docker tar layers found in this image")
        }
        let configuration = try await configuration(manifest, reference, cache: cache, options: options)
        let layers = try startDownloads(manifest, reference, cache: cache, options: options, observer: observer)
        let platform = Platform(
            system: configuration.os ?? "linux", architecture: configuration.architecture ?? options.platform.architecture,
            variant: configuration.variant ?? "")
        return RegistryImage(
            reference: reference, manifestDigest: digest, configuration: configuration, platform: platform, layers: layers)
    }

    /// What the name stands for: a manifest or an index.
    func document(
        _ reference: ImageReference, cache: BlobCache, options: PullOptions
    ) async throws -> FetchedManifest {
        if let digest = reference.digest {
            return try await documentBytes(digest, reference, cache: cache, options: options)
        }
        if options.offline {
            guard let known = cache.tag(reference), let bytes = try cache.document(known.digest) else {
                throw RegistryError.offline("\(reference)")
            }
            return FetchedManifest(bytes: bytes, mediaType: nil, digest: known.digest)
        }
        // One HEAD is enough where the tag still stands for what is in the cache.
        if let known = cache.tag(reference), let bytes = try cache.document(known.digest),
            try await resolve(reference) == known.digest
        {
            cache.remember(reference, known.digest)
            return FetchedManifest(bytes: bytes, mediaType: nil, digest: known.digest)
        }
        let fetched = try await manifest(reference)
        try cache.store(fetched.bytes, fetched.digest)
        cache.remember(reference, fetched.digest)
        return fetched
    }

    private func documentBytes(
        _ digest: Digest, _ reference: ImageReference, cache: BlobCache, options: PullOptions
    ) async throws -> FetchedManifest {
        if let bytes = try cache.document(digest) { return FetchedManifest(bytes: bytes, mediaType: nil, digest: digest) }
        if options.offline { throw RegistryError.offline("manifest \(digest) of \(reference)") }
        let fetched = try await manifest(reference, digest: digest)
        try cache.store(fetched.bytes, digest)
        return fetched
    }

    private func configuration(
        _ manifest: ImageManifest, _ reference: ImageReference, cache: BlobCache, options: PullOptions
    ) async throws -> ImageConfiguration {
        let what = "the configuration of \(reference)"
        let digest = try manifest.config.checkedDigest("the manifest of \(reference)")
        guard (0...Int64(ManifestDocument.largest)).contains(manifest.config.size) else {
            throw RegistryError.badDocument(what: what, why: "it has \(manifest.config.size) bytes")
        }
        if let bytes = try cache.document(digest) { return try ImageConfiguration(bytes, what: what) }
        if options.offline { throw RegistryError.offline(what) }
        let download = BlobDownload(digest, size: manifest.config.size)
        await fetch(download, reference, into: cache, foreignURLs: manifest.config.urls ?? []) { _ in }
        try download.wait()
        return try ImageConfiguration(try cache.document(digest) ?? [], what: what)
    }

    private func startDownloads(
        _ manifest: ImageManifest, _ reference: ImageReference, cache: BlobCache, options: PullOptions,
        observer: any PullObserver
    ) throws -> [BlobDownload] {
        var downloads: [BlobDownload] = []
        var byDigest: [Digest: BlobDownload] = [:]
        var queue: [(BlobDownload, [String])] = []
        for layer in manifest.layers {
            let digest = try layer.checkedDigest("the manifest of \(reference)")
            guard layer.size >= 0 else { throw RegistryError.badDocument(what: "\(reference)", why: "a layer has \(layer.size) bytes") }
            if options.offline, !cache.contains(digest) { throw RegistryError.offline("layer \(digest.short) of \(reference)") }
            if let known = byDigest[digest] {
                downloads.append(known)
                continue
            }
            let download = BlobDownload(digest, size: layer.size)
            byDigest[digest] = download
            downloads.append(download)
            queue.append((download, layer.urls ?? []))
        }
        observer.willDownload(bytes: queue.reduce(0) { $0 + $1.0.size })
        // The newest layer is read first, so it is fetched first.
        let pending = Array(queue.reversed())
        let parallel = options.parallelDownloads
        Task {
            await withTaskGroup(of: Void.self) { group in
                for (index, (download, urls)) in pending.enumerated() {
                    if index >= parallel { await group.next() }
                    group.addTask {
                        await self.fetch(download, reference, into: cache, foreignURLs: urls) { observer.downloaded(bytes: $0) }
                    }
                }
            }
        }
        return downloads
    }
}
