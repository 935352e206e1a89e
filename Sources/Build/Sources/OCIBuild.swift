import BlockIO
import FoundationEssentials
import ImageTree
import Linux
import Registry
import SIF
import SquashFS

/// An OCI or Docker image that a container can be built of.
public struct OCIImage {
    /// Bootstrap agent: `docker`, `oci`, `oci-archive`, `docker-archive`.
    public var agent: String
    /// The name as the user gave it, without the scheme.
    public var from: String
    public var configuration: ImageConfiguration
    public var platform: Platform
    /// From the oldest to the newest.
    public var layers: [LayerSource]

    public init(
        agent: String, from: String, configuration: ImageConfiguration, platform: Platform, layers: [LayerSource]
    ) {
        self.agent = agent
        self.from = from
        self.configuration = configuration
        self.platform = platform
        self.layers = layers
    }
}

extension OCIImage {
    /// A name for what a container made of this image would be: the same for the same image, in hexadecimal digits.
    public var identity: String {
        get throws {
            var text = "\(agent)\n\(from)\n\(platform)\n\(configuration.created ?? "")\n"
            text += (configuration.rootfs?.diff_ids ?? []).map { "\($0)\n" }.joined()
            return Digest(of: Array(text.utf8) + (try processConfiguration())).hex
        }
    }

    /// Converts the image to a SIF without unpacking it.
    /// - Parameters:
    ///   - stored: told how many plain bytes of files went into the image, from time to time.
    public func build(_ path: String, options: ImageOptions, stored: @escaping (UInt64) -> Void) throws {
        // A time that depends on the input alone, so that the same image gives the same bytes.
        let created = configuration.created.flatMap { BuildDate.seconds(rfc3339: $0) } ?? 0
        let buildTime = max(0, options.latestTime ?? created)
        let files = ContainerFiles(configuration, agent: agent, from: from, platform: platform, buildTime: buildTime)
        var options = options
        options.writer.modificationTime = UInt32(clamping: buildTime)
        let target = try SIFTarget(path, options: options)
        // What `inspect` shows is read from a tree; of an image that streams by, the files made here are all there is.
        let own = Node.directory()
        files.write(into: own)
        var description = SIFTarget.Description(
            definition: files.definition, metadata: try InspectMetadata(own).json,
            architecture: Architecture(name: platform.architecture) ?? .unknown)
        description.objects = [("oci-config.json", .genericJSON, try processConfiguration())]
        description.time = buildTime
        let provenance = Provenance(
            definition: files.definition,
            dependencies: (configuration.rootfs?.diff_ids ?? []).enumerated().map { index, digest in
                Provenance.Dependency(uri: "\(agent):\(from)", name: "layer \(index + 1)", digest: digest)
            })
        description.record = { ([], provenance) }
        try target.write(description) { writer in
            let root = try mergedTree(writer, stored)
            files.write(into: root)
            return root
        }
        try target.commit()
    }

    private func mergedTree(_ writer: ImageWriter, _ stored: @escaping (UInt64) -> Void) throws -> Node {
        var total: UInt64 = 0
        let merger = LayerMerger { content, size in
            let file = try writer.data.store(content, size: size)
            total += size
            stored(total)
            return .stored(file)
        }
        for (number, layer) in layers.enumerated().reversed() {
            do { try merger.add(layer: number, name: layer.name) { try layer.openPlain() } } catch {
                try layer.verify()
                throw error
            }
        }
        return try merger.finish()
    }

    private func processConfiguration() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return [UInt8](try encoder.encode(configuration.config ?? ImageConfiguration.Process()))
    }
}
