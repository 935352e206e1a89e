import AsyncHTTPClient
import FoundationEssentials
import Glibc
import Linux
import NIOCore

/// Writing to a registry: blobs, manifests, and artifacts that refer to an image (OCI distribution specification, push).
extension RegistryClient {
    /// What becomes a blob.
    public struct UploadBlob: Sendable {
        public enum Content: Sendable {
            /// The path of a file.
            case file(String)
            case bytes([UInt8])
        }

        public let content: Content
        public let digest: Digest
        /// Bytes.
        public let size: UInt64

        /// A file whose digest is known.
        public init(path: String, digest: Digest, size: UInt64) {
            (content, self.digest, self.size) = (.file(path), digest, size)
        }

        public init(_ bytes: [UInt8]) {
            (content, digest, size) = (.bytes(bytes), Digest(of: bytes), UInt64(bytes.count))
        }
    }

    /// Hands a blob over; nothing is sent where the registry has it. What arrived before the connection broke need not be sent again
    /// where the registry says how much that was.
    /// - Parameter sent: told of bytes on their way; a negative number for those that have to be sent again.
    public func push(_ blob: UploadBlob, to reference: ImageReference, sent: @escaping @Sendable (Int) -> Void) async throws {
        var failures = 0
        var best: UInt64 = 0
        var session: WebAddress?
        while true {
            do {
                let place: WebAddress
                var offset: UInt64 = 0
                if let session {
                    (place, offset) = try await progress(of: session, blob, reference)
                } else {
                    let (head, _) = try await change(.HEAD, .path("blobs/\(blob.digest)"), reference, accept: { $0 < 300 || $0 == 404 })
                    for try await _ in head.body {}
                    if head.status.code < 300 { return sent(Int(blob.size)) }
                    place = try await begin(reference)
                }
                session = place
                if offset > best { (best, failures) = (offset, 0) }
                let end = offset < blob.size || blob.size == 0 ? try await send(blob, from: offset, to: place, reference, sent) : place
                session = end
                return try await finish(blob, end, reference)
            } catch let error as RegistryError {
                failures += 1
                guard failures < Self.attempts else { throw error }
                switch error {
                case .unreachable: break
                case .badStatus(_, _, let status, _) where status >= 500 || status == 408 || status == 416: break
                // The upload is not known any more, or cannot be asked about: it begins anew.
                case .notFound where session != nil: session = nil
                case .badStatus(_, _, 405, _) where session != nil: session = nil
                default: throw error
                }
                try await Task.sleep(nanoseconds: 200_000_000 << UInt64(failures * 2))
            }
        }
    }

    /// Whether blobs can be handed over; none is.
    public func checkUpload(_ reference: ImageReference) async throws {
        let place = try await begin(reference)
        // Registries forget uploads that nobody goes on with; some can be told.
        let (response, _) = try await change(.DELETE, .address(place), reference, attempts: 1, accept: { _ in true })
        for try await _ in response.body {}
    }

    private func begin(_ reference: ImageReference) async throws -> WebAddress {
        let (response, address) = try await change(
            .POST, .path("blobs/uploads/"), reference, headers: [("Content-Length", "0")])
        return try await next(response, address, reference)
    }

    /// Where an upload goes on.
    private func next(_ response: HTTPClientResponse, _ address: WebAddress, _ reference: ImageReference) async throws -> WebAddress {
        for try await _ in response.body {}
        guard let location = response.headers.first(name: "Location") else { return address }
        guard let next = address.resolving(location) else {
            throw RegistryError.badDocument(
                what: "\(reference)", why: "the registry names no address for the upload (\(location.prefix(200)))")
        }
        return next
    }

    /// What has arrived of an upload.
    private func progress(
        of session: WebAddress, _ blob: UploadBlob, _ reference: ImageReference
    ) async throws -> (place: WebAddress, offset: UInt64) {
        let (response, address) = try await change(.GET, .address(session), reference)
        let range = response.headers.first(name: "Range")
        let place = try await next(response, address, reference)
        // "0-N", the last byte that is there; some say "0-0" of nothing.
        let last = range?.split(separator: "-").last.flatMap { UInt64($0) } ?? 0
        let offset = last == 0 ? 0 : last + 1
        guard offset <= blob.size else { throw RegistryError.notFound(reference: "\(reference)", detail: "the upload is another one") }
        return (place, offset)
    }

    private func send(
        _ blob: UploadBlob, from offset: UInt64, to place: WebAddress, _ reference: ImageReference,
        _ sent: @escaping @Sendable (Int) -> Void
    ) async throws -> WebAddress {
        let counter = SentBytes(sent)
        var headers = [("Content-Type", "application/octet-stream")]
        if offset > 0 { headers.append(("Content-Range", "\(offset)-\(blob.size - 1)")) }
        do {
            // One attempt: what has arrived is asked for before the next one.
            let (response, address) = try await change(
                .PATCH, .address(place), reference, headers: headers, attempts: 1,
                body: {
                    counter.reset()
                    return .stream(try BlobParts(blob, from: offset, counter), length: .known(Int64(blob.size - offset)))
                })
            return try await next(response, address, reference)
        } catch {
            counter.reset()
            throw error
        }
    }

    private func finish(_ blob: UploadBlob, _ place: WebAddress, _ reference: ImageReference) async throws {
        let address = WebAddress(
            scheme: place.scheme, hostAndPort: place.hostAndPort,
            path: place.path + (place.path.contains("?") ? "&" : "?") + "digest=\(blob.digest.algorithm)%3A\(blob.digest.hex)")
        let (response, _) = try await change(.PUT, .address(address), reference, headers: [("Content-Length", "0")])
        for try await _ in response.body {}
    }

    /// Stores a manifest, whose blobs must be there.
    /// - Parameter name: a tag, or its digest.
    /// - Returns: whether the registry keeps a list of what refers to an image, where this does.
    @discardableResult
    public func push(manifest bytes: [UInt8], mediaType: String, as name: String, to reference: ImageReference) async throws -> Bool {
        let (response, _) = try await change(
            .PUT, .path("manifests/\(name)"), reference, headers: [("Content-Type", mediaType)],
            body: { .bytes(ByteBuffer(bytes: bytes)) })
        for try await _ in response.body {}
        return response.headers.contains(name: "OCI-Subject")
    }

    /// Says in the list that stands for what refers to an image (a tag made of its digest) that there is one more, for registries
    /// that keep none themselves.
    public func addReferrer(_ descriptor: BlobDescriptor, to subject: Digest, in reference: ImageReference) async throws {
        let tag = "\(subject.algorithm)-\(subject.hex)"
        let (response, _) = try await change(
            .GET, .path("manifests/\(tag)"), reference, headers: [("Accept", MediaType.ociIndex)], accept: { $0 < 300 || $0 == 404 })
        let buffer = try await response.body.collect(upTo: ManifestDocument.largest)
        var manifests: [BlobDescriptor] = []
        if response.status.code < 300 {
            guard
                case .index(let index) = try ManifestDocument(
                    Array(buffer.readableBytesView), mediaType: response.headers.first(name: "Content-Type"), what: "the tag \(tag)")
            else {
                throw RegistryError.badDocument(what: "the tag \(tag) of \(reference)", why: "it is not a list of what refers to an image")
            }
            manifests = index.manifests
        }
        if manifests.contains(where: { $0.digest == descriptor.digest }) { return }
        struct Document: Encodable {
            var schemaVersion = 2
            var mediaType = MediaType.ociIndex
            var manifests: [BlobDescriptor]
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let document = Document(manifests: (manifests + [descriptor]).sorted { $0.digest < $1.digest })
        try await push(manifest: Array(try encoder.encode(document)), mediaType: MediaType.ociIndex, as: tag, to: reference)
    }
}

/// How much of a blob is on its way in the present attempt.
///
/// `@unchecked Sendable`: the number is behind ``lock``.
private final class SentBytes: @unchecked Sendable {
    private let lock = Monitor()
    private let report: @Sendable (Int) -> Void
    private var count = 0

    init(_ report: @escaping @Sendable (Int) -> Void) { self.report = report }

    func add(_ bytes: Int) {
        lock.locked { count += bytes }
        report(bytes)
    }

    /// Nothing of it has arrived.
    func reset() {
        let lost = lock.locked {
            defer { count = 0 }
            return count
        }
        if lost > 0 { report(-lost) }
    }
}

/// The rest of a blob in pieces.
private struct BlobParts: AsyncSequence {
    typealias Element = ByteBuffer

    private let file: SharedDescriptor?
    private let blob: RegistryClient.UploadBlob
    private let start: UInt64
    private let counter: SentBytes

    private static let size = 256 << 10

    init(_ blob: RegistryClient.UploadBlob, from start: UInt64, _ counter: SentBytes) throws {
        if case .file(let path) = blob.content { file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY)) } else { file = nil }
        (self.blob, self.start, self.counter) = (blob, start, counter)
    }

    func makeAsyncIterator() -> Iterator { Iterator(parts: self, position: start) }

    struct Iterator: AsyncIteratorProtocol {
        let parts: BlobParts
        var position: UInt64

        mutating func next() async throws -> ByteBuffer? {
            let wanted = Int(Swift.min(UInt64(BlobParts.size), parts.blob.size - position))
            guard wanted > 0 else { return nil }
            let buffer = try parts.part(at: position, count: wanted)
            position += UInt64(buffer.readableBytes)
            parts.counter.add(buffer.readableBytes)
            return buffer
        }
    }

    private func part(at position: UInt64, count: Int) throws -> ByteBuffer {
        switch blob.content {
        case .bytes(let bytes): return ByteBuffer(bytes: bytes[Int(position)..<Int(position) + count])
        case .file(let path):
            let descriptor = file?.rawValue ?? -1
            var buffer = ByteBufferAllocator().buffer(capacity: count)
            let filled = buffer.withUnsafeMutableWritableBytes { bytes in
                retryingOnInterrupt { pread(descriptor, bytes.baseAddress, count, off_t(position)) }
            }
            guard filled > 0 else { throw SystemError("read \(path)", errno: filled == 0 ? EIO : errno) }
            buffer.moveWriterIndex(forwardBy: filled)
            return buffer
        }
    }
}
