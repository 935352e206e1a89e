import BlockIO
import Linux
import Registry

/// An OCI image layout in a directory (OCI image specification, image layout).
enum OCILayout {
    /// - Parameter name: `dir`, `dir:tag` or `dir@digest`.
    static func open(_ name: String, agent: String, platform: Platform) throws -> OCIImage {
        let (path, selector) = split(name)
        return try open(agent: agent, from: name, selector: selector, platform: platform) { member in
            try Files.read(path + "/" + member, limit: ManifestDocument.largest)
        } blob: { member in
            try FileStream(path: path + "/" + member)
        }
    }

    enum Selector: Equatable {
        case any
        case tag(String)
        case digest(Digest)
    }

    /// A colon that is part of an existing path belongs to the path.
    static func split(_ name: String) -> (path: String, selector: Selector) {
        if let at = name.lastIndex(of: "@"), let digest = Digest(name[name.index(after: at)...]) {
            return (String(name[..<at]), .digest(digest))
        }
        if Files.status(name) == nil, let colon = name.lastIndex(of: ":"), !name[colon...].contains("/") {
            return (String(name[..<colon]), .tag(String(name[name.index(after: colon)...])))
        }
        return (name, .any)
    }

    /// - Parameters:
    ///   - document: reads a small member whole.
    ///   - blob: opens a member as a stream.
    static func open(
        agent: String, from: String, selector: Selector, platform: Platform, document: (String) throws -> [UInt8],
        blob: @escaping (String) throws -> any ByteStream
    ) throws -> OCIImage {
        func read(_ digest: Digest, _ what: String) throws -> [UInt8] {
            let bytes = try document(member(digest))
            let found = Digest(of: bytes)
            guard digest.algorithm != "sha256" || found == digest else {
                throw RegistryError.digestMismatch(what: what, expected: "\(digest)", found: "\(found)")
            }
            return bytes
        }
        let index: [UInt8]
        do { index = try document("index.json") } catch {
            throw BuildError.badSource(from, why: "it has no index.json, so it is not an OCI image layout (\(error))")
        }
        guard case .index(let top) = try ManifestDocument(index, mediaType: nil, what: "index.json of \(from)") else {
            throw BuildError.badSource(from, why: "its index.json is not an index")
        }
        var descriptor = try choose(top, selector, platform, from)
        var current = try ManifestDocument(
            try read(try descriptor.checkedDigest("index.json of \(from)"), "a manifest of \(from)"),
            mediaType: descriptor.mediaType, what: "a manifest of \(from)")
        var depth = 0
        while case .index(let nested) = current {
            depth += 1
            guard depth < 4 else { throw BuildError.badSource(from, why: "its indexes are nested too deep") }
            descriptor = try nested.choose(platform, reference: from)
            current = try ManifestDocument(
                try read(try descriptor.checkedDigest("an index of \(from)"), "a manifest of \(from)"),
                mediaType: descriptor.mediaType, what: "a manifest of \(from)")
        }
        guard case .manifest(let manifest) = current else { throw BuildError.badSource(from, why: "it has no manifest") }
        let configuration = try ImageConfiguration(
            try read(try manifest.config.checkedDigest("the manifest of \(from)"), "the configuration of \(from)"),
            what: "the configuration of \(from)")
        let ids = configuration.rootfs?.diff_ids ?? []
        let layers = try manifest.layers.enumerated().map { number, layer in
            let digest = try layer.checkedDigest("the manifest of \(from)")
            return LayerSource(name: "layer \(digest.short) of \(from)", diffID: number < ids.count ? ids[number] : nil) {
                VerifiedStream(try blob(member(digest)), digest: digest, name: "layer \(digest.short) of \(from)")
            }
        }
        return OCIImage(
            agent: agent, from: from, configuration: configuration, platform: configuration.platform(otherwise: platform),
            layers: layers)
    }

    private static func member(_ digest: Digest) -> String { "blobs/\(digest.algorithm)/\(digest.hex)" }

    private static func choose(
        _ index: ImageIndex, _ selector: Selector, _ platform: Platform, _ from: String
    ) throws -> BlobDescriptor {
        let tagKey = "org.opencontainers.image.ref.name"
        let tags = index.manifests.compactMap { $0.annotations?[tagKey] }
        switch selector {
        case .digest(let digest):
            guard let found = index.manifests.first(where: { $0.digest == digest.description }) else {
                throw BuildError.badSource(from, why: "it has no image with this digest")
            }
            return found
        case .tag(let tag):
            guard let found = index.manifests.first(where: { $0.annotations?[tagKey] == tag }) else {
                throw BuildError.badSource(
                    from, why: "it has no image with this tag; it has \(tags.isEmpty ? "no tags" : tags.joined(separator: ", "))")
            }
            return found
        case .any:
            let images = index.manifests.filter { $0.artifactType == nil }
            if let only = images.first, images.count == 1 { return only }
            guard !images.isEmpty else { throw BuildError.badSource(from, why: "it has no image") }
            // Images of one name for several platforms are no question; several names are.
            guard Set(tags).count <= 1, images.allSatisfy({ $0.platform != nil }) else {
                throw BuildError.badSource(
                    from,
                    why: "it has several images (\(tags.joined(separator: ", "))): choose one by a tag, \(from):\(tags.first ?? "TAG")")
            }
            return try index.choose(platform, reference: from)
        }
    }
}

extension ImageConfiguration {
    /// What the image says that it is for.
    func platform(otherwise platform: Platform) -> Platform {
        Platform(system: os ?? "linux", architecture: architecture ?? platform.architecture, variant: variant ?? "")
    }
}
