import FoundationEssentials

/// Media types of images and their parts.
public enum MediaType {
    public static let dockerList = "application/vnd.docker.distribution.manifest.list.v2+json"
    public static let dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
    public static let ociIndex = "application/vnd.oci.image.index.v1+json"
    public static let ociManifest = "application/vnd.oci.image.manifest.v1+json"
    static let schema1 = [
        "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ]

    /// The value of an `Accept` header for manifests.
    static let accepted = (schema1 + [dockerManifest, ociManifest, dockerList, ociIndex]).joined(separator: ", ")

    /// Whether a layer of this type is a tar.
    static func isLayer(_ type: String) -> Bool {
        type.hasPrefix("application/vnd.oci.image.layer.v1.tar")
            || type.hasPrefix("application/vnd.oci.image.layer.nondistributable.v1.tar")
            || type.hasPrefix("application/vnd.docker.image.rootfs.diff.tar")
            || type.hasPrefix("application/vnd.docker.image.rootfs.foreign.diff.tar")
    }
}

/// Points at a blob (OCI image specification, content descriptors).
public struct BlobDescriptor: Codable, Sendable, Hashable {
    public struct PlatformFields: Codable, Sendable, Hashable {
        public var architecture: String?
        public var os: String?
        public var variant: String?
    }

    public var mediaType: String?
    public var digest: String
    /// Bytes.
    public var size: Int64
    public var urls: [String]?
    public var annotations: [String: String]?
    /// What an artifact is that is no image, such as a list of what is in one.
    public var artifactType: String?
    public var platform: PlatformFields?

    /// The digest where it is of a valid form.
    public func checkedDigest(_ what: String) throws(RegistryError) -> Digest {
        guard let parsed = Digest(digest) else {
            throw .badDocument(what: what, why: "it names the blob \"\(digest.prefix(100))\", which is not a digest")
        }
        return parsed
    }
}

/// An image manifest or an image index, told apart.
public enum ManifestDocument: Sendable {
    case manifest(ImageManifest)
    case index(ImageIndex)

    /// Documents larger than this are refused, bytes.
    public static let largest = 8 << 20

    private struct Probe: Codable {
        var mediaType: String?
        var schemaVersion: Int?
        var layers: [BlobDescriptor]?
        var config: BlobDescriptor?
        var manifests: [BlobDescriptor]?
    }

    /// - Parameter mediaType: what the registry says that it is.
    /// - Throws: ``RegistryError/badDocument(what:why:)``, also for a document that could be read as both.
    public init(_ bytes: [UInt8], mediaType: String?, what: String) throws(RegistryError) {
        if let mediaType, MediaType.schema1.contains(mediaType) {
            throw .badDocument(
                what: what,
                why: "it is an image of the old schema 1 (unsupported MediaType): pull it and push it again with a current Docker")
        }
        let probe: Probe
        do { probe = try JSONDecoder().decode(Probe.self, from: Data(bytes)) } catch {
            throw .badDocument(what: what, why: "it is not a manifest (\(Self.reason(error)))")
        }
        let hasManifestFields = probe.layers != nil || probe.config != nil
        guard !(probe.manifests != nil && hasManifestFields) else {
            throw .badDocument(what: what, why: "it is both a manifest and an index")
        }
        let isIndex = probe.manifests != nil
        for type in [mediaType, probe.mediaType].compactMap({ $0 }) {
            let saysIndex = type == MediaType.dockerList || type == MediaType.ociIndex
            let saysManifest = type == MediaType.dockerManifest || type == MediaType.ociManifest
            guard !(saysIndex && !isIndex), !(saysManifest && isIndex) else {
                throw .badDocument(what: what, why: "its media type \(type) is not what it holds")
            }
        }
        if let manifests = probe.manifests {
            self = .index(ImageIndex(manifests: manifests))
        } else if let config = probe.config, let layers = probe.layers {
            self = .manifest(ImageManifest(config: config, layers: layers))
        } else if probe.schemaVersion == 1 {
            throw .badDocument(what: what, why: "it is an image of the old schema 1 (unsupported MediaType)")
        } else {
            throw .badDocument(what: what, why: "it has neither layers nor manifests")
        }
    }

    private static func reason(_ error: any Error) -> String {
        switch error {
        case DecodingError.dataCorrupted(let context): context.debugDescription
        case DecodingError.keyNotFound(let key, _): "\(key.stringValue) is missing"
        case DecodingError.typeMismatch(_, let context):
            context.codingPath.map(\.stringValue).joined(separator: ".") + " is of the wrong type"
        default: "wrong structure"
        }
    }
}

public struct ImageManifest: Sendable {
    public var config: BlobDescriptor
    public var layers: [BlobDescriptor]
}

public struct ImageIndex: Sendable {
    public var manifests: [BlobDescriptor]

    /// The entry for a platform.
    /// - Throws: ``RegistryError/noPlatform(wanted:reference:available:)``
    public func choose(_ wanted: Platform, reference: String) throws(RegistryError) -> BlobDescriptor {
        var best: (distance: Int, descriptor: BlobDescriptor)?
        for descriptor in manifests {
            guard let distance = wanted.distance(to: Self.platform(descriptor)), distance < best?.distance ?? .max else { continue }
            best = (distance, descriptor)
        }
        if let best { return best.descriptor }
        let available = manifests.map { Self.platform($0).description }.filter { $0 != "unknown/unknown" }
        throw .noPlatform(wanted: wanted.description, reference: reference, available: available)
    }

    private static func platform(_ descriptor: BlobDescriptor) -> Platform {
        guard let fields = descriptor.platform else { return Platform(architecture: "amd64") }
        return Platform(
            system: fields.os ?? "linux", architecture: fields.architecture ?? "amd64", variant: fields.variant ?? "")
    }
}

/// The parts of an image's configuration that matter here (OCI image specification, image configuration).
public struct ImageConfiguration: Codable, Sendable {
    public struct Process: Codable, Sendable {
        public var User: String?
        public var ExposedPorts: [String: Empty]?
        public var Env: [String]?
        public var Entrypoint: [String]?
        public var Cmd: [String]?
        public var Volumes: [String: Empty]?
        public var WorkingDir: String?
        public var Labels: [String: String]?
        public var StopSignal: String?
        public var Healthcheck: HealthTest?
        public init() {}
    }

    /// Docker's own, beside what the OCI lays down; times are nanoseconds.
    public struct HealthTest: Codable, Sendable {
        public var Test: [String]?
        public var Interval: Int?
        public var Timeout: Int?
        public var StartPeriod: Int?
        public var Retries: Int?
    }

    public struct Empty: Codable, Sendable { public init() {} }

    public struct RootFS: Codable, Sendable {
        public var type: String?
        public var diff_ids: [String]?
    }

    public var created: String?
    public var architecture: String?
    public var os: String?
    public var variant: String?
    public var config: Process?
    public var rootfs: RootFS?

    public init(_ bytes: [UInt8], what: String) throws(RegistryError) {
        do { self = try JSONDecoder().decode(ImageConfiguration.self, from: Data(bytes)) } catch {
            throw .badDocument(what: what, why: "it is not an image configuration (\(error))")
        }
    }

    public init() {}
}
