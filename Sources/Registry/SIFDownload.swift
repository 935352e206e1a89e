import AsyncHTTPClient
import Glibc
import Linux
import NIOCore

/// Image files that are stored as they are: artifacts of registries (ORAS), and files of web servers and of libraries.
extension RegistryClient {
    /// A SIF's layer in an artifact.
    public static let sifLayer = "application/vnd.sylabs.sif.layer.v1.sif"

    /// Fetches the SIF of an artifact into the cache.
    /// - Returns: where it is, and its digest.
    public func fetchSIF(
        _ reference: ImageReference, cache: BlobCache, options: PullOptions, observer: any PullObserver
    ) async throws -> (path: String, digest: Digest) {
        let fetched = try await document(reference, cache: cache, options: options)
        guard
            case .manifest(let manifest) = try ManifestDocument(
                fetched.bytes, mediaType: fetched.mediaType, what: "the manifest of \(reference)")
        else { throw RegistryError.badDocument(what: "\(reference)", why: "it is an index, not a SIF artifact") }
        guard manifest.layers.count == 1, let layer = manifest.layers.first, layer.mediaType == Self.sifLayer else {
            let types = manifest.layers.map { $0.mediaType ?? "(none)" }.joined(separator: ", ")
            throw RegistryError.badDocument(
                what: "\(reference)", why: "it is not a SIF artifact: its layers are \(types); a container image is fetched with docker://")
        }
        let digest = try layer.checkedDigest("the manifest of \(reference)")
        if options.offline, !cache.contains(digest) { throw RegistryError.offline("\(reference)") }
        observer.willDownload(bytes: layer.size)
        let download = BlobDownload(digest, size: layer.size)
        await fetch(download, reference, into: cache, foreignURLs: layer.urls ?? []) { observer.downloaded(bytes: $0) }
        try download.wait()
        return (cache.path(digest), digest)
    }
}

/// Files of web servers, kept under their address and asked for again only where they have changed (RFC 9110, ETag).
public struct WebFile: Sendable {
    private let address: WebAddress
    private let folder: String

    /// - Parameter folder: of all such files.
    /// - Throws: ``RegistryError/badReference`` for what is no address.
    public init(_ url: String, folder: String) throws {
        guard let address = WebAddress(url) else { throw RegistryError.badReference(url, why: "it is not a web address") }
        self.address = address
        self.folder = folder
    }

    /// Fetches the file where it is not there as it is on the server.
    /// - Returns: its path.
    public func fetch(offline: Bool, observer: any PullObserver) async throws -> String {
        try Files.makeDirectories(folder, mode: 0o700)
        let path = "\(folder)/\(Digest(of: address.text.utf8).hex)"
        let isThere = Files.status(path) != nil
        if offline {
            guard isThere else { throw RegistryError.offline(address.text) }
            return path
        }
        let transport = HTTPTransport()
        defer { Task { await transport.shutdown() } }
        var headers: [(String, String)] = []
        if isThere, let tag = try? Files.readText(path + ".etag", limit: 4096), !tag.isEmpty { headers.append(("If-None-Match", tag)) }
        let response: HTTPClientResponse
        do { response = try await transport.send(.GET, address, headers: headers) } catch let error as TransportError {
            throw RegistryError.unreachable(host: error.host, why: error.reason)
        }
        if response.status.code == 304 { return path }
        guard response.status.code == 200 else {
            for try await _ in response.body {}
            throw RegistryError.notFound(reference: address.text, detail: "the server answers \(response.status.code)")
        }
        let expected = response.headers.first(name: "Content-Length").flatMap { Int64($0) }
        observer.willDownload(bytes: expected ?? 0)
        let output = try OutputFile(path, mode: 0o600)
        var count: Int64 = 0
        for try await part in response.body {
            try part.withUnsafeReadableBytes { try Files.writeAll($0, to: output.descriptor, name: path) }
            count += Int64(part.readableBytes)
            observer.downloaded(bytes: part.readableBytes)
        }
        if let expected, expected != count {
            throw RegistryError.unreachable(host: address.hostAndPort, why: "it sent \(count) of \(expected) bytes")
        }
        try output.commit()
        try Files.replace(path + ".etag", with: Array((response.headers.first(name: "ETag") ?? "").utf8), mode: 0o600)
        return path
    }
}
