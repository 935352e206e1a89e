import FoundationEssentials
import Linux
import Registry

/// An OCI layout in a tar.
enum OCIArchive {
    static func open(_ name: String, platform: Platform) throws -> OCIImage {
        let (path, selector) = OCILayout.split(name)
        let members = ArchiveMembers(path: path)
        return try OCILayout.open(agent: "oci-archive", from: name, selector: selector, platform: platform) { member in
            try members.document(member)
        } blob: {
            try members.open($0)
        }
    }
}

/// What `docker save` writes.
enum DockerArchive {
    private struct Entry: Decodable {
        var Config: String
        var RepoTags: [String]?
        var Layers: [String]
    }

    /// - Parameter name: `file` or `file:name:tag`.
    static func open(_ name: String, platform: Platform) throws -> OCIImage {
        let (path, wanted) = split(name)
        let members = ArchiveMembers(path: path)
        let names = try members.names()
        guard names.contains("manifest.json") else {
            // Newer versions of Docker write a layout; a tar without any of both is something else.
            guard names.contains("index.json") else {
                throw BuildError.badSource(path, why: "it has neither manifest.json nor index.json, so `docker save` has not made it")
            }
            return try OCIArchive.open(name, platform: platform)
        }
        let entries: [Entry]
        do { entries = try JSONDecoder().decode([Entry].self, from: Data(try members.document("manifest.json"))) } catch let error
            as DecodingError
        {
            throw BuildError.badSource(path, why: "its manifest.json is not valid (\(error))")
        }
        let entry = try choose(entries, wanted, path)
        let configuration = try ImageConfiguration(
            try members.document(entry.Config), what: "the configuration of \(path)")
        let ids = configuration.rootfs?.diff_ids ?? []
        let layers = entry.Layers.enumerated().map { number, layer in
            LayerSource(name: "layer \(layer) of \(path)", diffID: number < ids.count ? ids[number] : nil) {
                try members.open(layer)
            }
        }
        guard !layers.isEmpty else { throw BuildError.badSource(path, why: "its image has no layers") }
        return OCIImage(
            agent: "docker-archive", from: name, configuration: configuration,
            platform: configuration.platform(otherwise: platform), layers: layers)
    }

    private static func split(_ name: String) -> (path: String, tag: String?) {
        if Files.status(name) != nil { return (name, nil) }
        guard let colon = name.firstIndex(of: ":") else { return (name, nil) }
        return (String(name[..<colon]), String(name[name.index(after: colon)...]))
    }

    private static func choose(_ entries: [Entry], _ wanted: String?, _ path: String) throws -> Entry {
        let tags = entries.flatMap { $0.RepoTags ?? [] }
        if let wanted {
            let full = wanted.contains(":") ? wanted : "\(wanted):latest"
            guard let found = entries.first(where: { ($0.RepoTags ?? []).contains { $0 == full || $0.hasSuffix("/\(full)") } }) else {
                throw BuildError.badSource(path, why: "it has no image \(full); it has \(tags.joined(separator: ", "))")
            }
            return found
        }
        guard entries.count == 1, let only = entries.first else {
            throw BuildError.badSource(
                path,
                why:
                    "tarball must contain only a single image; it has \(entries.count) (\(tags.joined(separator: ", "))): choose one, docker-archive:\(path):NAME:TAG"
            )
        }
        return only
    }
}
