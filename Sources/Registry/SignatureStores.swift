import Glibc
import Linux
import Yams

/// Where the signatures of images are, which a registry does not keep itself (containers-registries.d(5)).
public struct SignatureStores: Sendable {
    /// By host, namespace, repository, or name with tag.
    private var stores: [String: String] = [:]
    /// Of all that have none of their own.
    private var base: String

    private struct File: Decodable {
        struct Place: Decodable {
            var lookaside: String?
            /// The older name.
            var sigstore: String?
            var address: String? { lookaside ?? sigstore }
        }
        enum CodingKeys: String, CodingKey {
            case docker
            case general = "default-docker"
        }
        var docker: [String: Place]?
        var general: Place?
    }

    /// Reads the user's files, or else the system's.
    /// - Throws: for a file that cannot be read.
    public init(home: String) throws {
        base = "file://" + (getuid() == 0 ? "/var/lib/containers/sigstore" : "\(home)/.local/share/containers/sigstore")
        let folders = ["\(home)/.config/containers/registries.d", "/etc/containers/registries.d"]
        guard let folder = folders.first(where: Files.isDirectory) else { return }
        for name in try Files.entries(folder).sorted() where name.hasSuffix(".yaml") {
            let path = "\(folder)/\(name)"
            let text = try Files.readText(path, limit: 1 << 20)
            if text.allSatisfy(\.isWhitespace) { continue }
            let file: File
            do { file = try YAMLDecoder().decode(File.self, from: text) } catch {
                throw RegistryError.credentials("the configuration of signatures \(path) is not valid: \(error)")
            }
            if let address = file.general?.address { base = address }
            for (key, place) in file.docker ?? [:] { if let address = place.address { stores[key] = address } }
        }
    }

    /// The address that belongs to a name: that of the longest part of it.
    func address(of reference: ImageReference) -> String {
        let host = reference.registry == ImageReference.dockerHub ? "docker.io" : reference.registry
        var name = "\(host)/\(reference.repository)"
        if reference.digest == nil, let found = stores["\(name):\(reference.tag)"] { return found }
        while true {
            if let found = stores[name] { return found }
            guard let slash = name.lastIndex(of: "/") else { break }
            name = String(name[..<slash])
        }
        // Hosts below a domain.
        while let dot = name.firstIndex(of: ".") {
            name = String(name[name.index(after: dot)...])
            if let found = stores["*.\(name)"] { return found }
        }
        return base
    }

    /// Signatures that are looked at, at the most.
    private static let most = 64

    /// The signatures of a manifest.
    /// - Parameter limit: of one, bytes.
    /// - Returns: them, and where they were looked for.
    public func signatures(
        of digest: Digest, _ reference: ImageReference, limit: Int
    ) async throws -> (found: [[UInt8]], place: String) {
        var address = address(of: reference)
        while address.hasSuffix("/") { address.removeLast() }
        let place = "\(address)/\(reference.repository)@\(digest.algorithm)=\(digest.hex)"
        var found: [[UInt8]] = []
        for number in 1...Self.most {
            guard let one = try await read("\(place)/signature-\(number)", limit: limit) else { break }
            found.append(one)
        }
        return (found, place)
    }

    private func read(_ url: String, limit: Int) async throws -> [UInt8]? {
        if url.hasPrefix("file://") {
            let path = String(url.dropFirst("file://".count))
            guard Files.status(path) != nil else { return nil }
            return try Files.read(try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK), name: path, limit: limit)
        }
        guard let address = WebAddress(url) else {
            throw RegistryError.badReference(url, why: "signatures are read from http, https or file")
        }
        return try await WebExchange.answer(.GET, address, limit: limit)
    }
}
