import BlockIO
import Glibc
import Linux
import NIOCore

/// A blob that is being received; its bytes can be read while they arrive.
///
/// `@unchecked Sendable`: what changes is behind ``monitor``.
public final class BlobDownload: @unchecked Sendable {
    public let digest: Digest
    /// Bytes as the manifest says.
    public let size: Int64
    private let monitor = Monitor()
    private var descriptor: SharedDescriptor?
    private var received: UInt64 = 0
    private var isComplete = false
    /// Where it is in the cache.
    private var path = ""
    private var failure: (any Error)?

    init(_ digest: Digest, size: Int64) {
        self.digest = digest
        self.size = size
    }

    // MARK: The receiving side

    func begin(_ file: SharedDescriptor, received: UInt64) {
        monitor.locked {
            descriptor = file
            self.received = received
            monitor.wakeAll()
        }
    }

    func advance(to count: UInt64) {
        monitor.locked {
            received = count
            monitor.wakeAll()
        }
    }

    func complete(_ file: SharedDescriptor, size: UInt64, path: String) {
        monitor.locked {
            self.path = path
            descriptor = file
            received = size
            isComplete = true
            monitor.wakeAll()
        }
    }

    func fail(_ error: any Error) {
        monitor.locked {
            failure = error
            monitor.wakeAll()
        }
    }

    // MARK: The reading side

    /// Waits until the blob is there and its digest is checked.
    public func wait() throws {
        try monitor.locked {
            while !isComplete {
                if let failure { throw failure }
                monitor.wait()
            }
        }
    }

    /// Hashes the blob as it stands on disk; a damaged one is removed from the cache, so that it is fetched again.
    /// - Throws: ``RegistryError/digestMismatch(what:expected:found:)``, or why it could not be received.
    public func verify() throws {
        try wait()
        guard let (file, path) = monitor.locked({ descriptor.map { ($0, path) } }) else { return }
        var hash = StreamHash(digest.algorithm)
        let source = try FileSource(file, name: "\(digest)")
        let stream = SourceStream(source)
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try stream.read(into: $0) }
            if count == 0 { break }
            buffer.withUnsafeBytes { hash.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
        let found = hash.finish()
        guard found != "\(digest)" else { return }
        unlink(path)
        throw RegistryError.digestMismatch(
            what: "blob in the cache (it was damaged and has been removed: try again)", expected: "\(digest)", found: found)
    }

    /// The blob from its start; its end is only reported once the digest has been checked.
    public func stream() -> any ByteStream { Follower(self) }

    private final class Follower: ByteStream {
        private let download: BlobDownload
        private var position: UInt64 = 0

        init(_ download: BlobDownload) { self.download = download }

        func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
            let (file, end) = try download.available(after: position)
            let count = Int(min(UInt64(buffer.count), end - position))
            if count == 0 { return 0 }
            let read = retryingOnInterrupt { pread(file.rawValue, buffer.baseAddress, count, off_t(position)) }
            if read < 0 { throw SystemError.last("read \(download.digest)") }
            position += UInt64(read)
            return read
        }
    }

    /// Waits for bytes behind a position.
    private func available(after position: UInt64) throws -> (SharedDescriptor, UInt64) {
        try monitor.locked {
            while true {
                if let failure { throw failure }
                if let descriptor, received > position || isComplete { return (descriptor, max(received, position)) }
                monitor.wait()
            }
        }
    }
}

extension RegistryClient {
    /// Fetches a blob into the cache unless it is there or another process is doing so.
    func fetch(
        _ download: BlobDownload, _ reference: ImageReference, into cache: BlobCache, foreignURLs: [String],
        progress: @Sendable (Int) -> Void
    ) async {
        do {
            let file = try await fetched(download, reference, into: cache, foreignURLs: foreignURLs, progress: progress)
            download.complete(file, size: UInt64(download.size), path: cache.path(download.digest))
        } catch { download.fail(error) }
    }

    private func fetched(
        _ download: BlobDownload, _ reference: ImageReference, into cache: BlobCache, foreignURLs: [String],
        progress: @Sendable (Int) -> Void
    ) async throws -> SharedDescriptor {
        var pause: UInt64 = 5_000_000
        while true {
            if let file = try Self.cached(download, in: cache) ?? cache.site?.open(download.digest, size: download.size)?.file {
                progress(Int(download.size))
                return file
            }
            if let lease = try Lease.take(cache.leasePath(download.digest)) {
                defer { lease.release() }
                // It may have come between the two looks.
                cache.lookAnew(download.digest)
                if let file = try Self.cached(download, in: cache) {
                    progress(Int(download.size))
                    return file
                }
                return try await receive(download, reference, into: cache, foreignURLs: foreignURLs, lease: lease, progress: progress)
            }
            try await Task.sleep(nanoseconds: pause)
            pause = min(pause * 2, 250_000_000)
        }
    }

    private static func cached(_ download: BlobDownload, in cache: BlobCache) throws -> SharedDescriptor? {
        let path = cache.path(download.digest)
        guard let status = Files.status(path) else { return nil }
        // A file of another size is not the blob, whoever put it there.
        if Int64(status.st_size) != download.size {
            unlink(path)
            return nil
        }
        return SharedDescriptor(try OwnedDescriptor.open(path))
    }

    private func receive(
        _ download: BlobDownload, _ reference: ImageReference, into cache: BlobCache, foreignURLs: [String],
        lease: Lease, progress: @Sendable (Int) -> Void
    ) async throws -> SharedDescriptor {
        let what = "blob \(download.digest) of \(reference)"
        let partial = cache.partialPath(download.digest)
        let file = SharedDescriptor(try OwnedDescriptor.open(partial, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600))
        var receiver = BlobReceiver(file, digest: download.digest, size: download.size, name: partial)
        try receiver.takeOver()
        progress(Int(receiver.received))
        download.begin(file, received: receiver.received)
        var attempt = 0
        while receiver.received < UInt64(download.size) || download.size == 0 {
            let before = receiver.received
            do {
                let (response, start) = try await blob(
                    download.digest, reference, from: before, foreignURLs: foreignURLs)
                if start == 0 && before > 0 { try receiver.restart() }
                for try await buffer in response.body {
                    let count = try buffer.withUnsafeReadableBytes { try receiver.append($0) }
                    download.advance(to: receiver.received)
                    progress(count)
                    lease.renew()
                }
                if receiver.received < UInt64(download.size) {
                    throw TransportError(host: reference.host, underlying: ShortAnswer())
                }
                break
            } catch let error as RegistryError {
                unlink(partial)
                throw error
            } catch let error as SystemError {
                unlink(partial)
                throw RegistryError.system(error)
            } catch {
                attempt = receiver.received > before ? 1 : attempt + 1
                guard attempt < Self.attempts else {
                    let reason = (error as? TransportError)?.reason ?? TransportError(host: reference.host, underlying: error).reason
                    throw RegistryError.unreachable(
                        host: reference.host,
                        why:
                            "\(reason) while \(what) was received (\(receiver.received) of \(download.size) bytes are kept; the next attempt goes on from there)"
                    )
                }
                try await Task.sleep(nanoseconds: 300_000_000 << UInt64(attempt))
            }
        }
        try receiver.check(what)
        guard fsync(file.rawValue) == 0, rename(partial, cache.path(download.digest)) == 0 else {
            throw RegistryError.system(.last("rename to \(cache.path(download.digest))"))
        }
        cache.site?.add(download.digest, from: cache.path(download.digest))
        return file
    }
}

/// An answer that ended before the blob did.
private struct ShortAnswer: Error, CustomStringConvertible {
    var description: String { "remoteConnectionClosed" }
}

/// Writes a blob's bytes to a file and hashes them on the way.
private struct BlobReceiver {
    private let file: SharedDescriptor
    private let digest: Digest
    private let size: Int64
    private let name: String
    private var hasher: StreamHash
    private(set) var received: UInt64 = 0

    init(_ file: SharedDescriptor, digest: Digest, size: Int64, name: String) {
        self.file = file
        self.digest = digest
        self.size = size
        self.name = name
        hasher = StreamHash(digest.algorithm)
    }

    /// Goes on from what an earlier process has left.
    mutating func takeOver() throws(SystemError) {
        let there = try Files.status(file.rawValue, name: name).st_size
        guard there > 0, Int64(there) <= size else {
            try restart()
            return
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
        defer { buffer.deallocate() }
        while true {
            let count = retryingOnInterrupt { pread(file.rawValue, buffer.baseAddress, buffer.count, off_t(received)) }
            if count <= 0 { break }
            hasher.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            received += UInt64(count)
        }
    }

    mutating func restart() throws(SystemError) {
        guard ftruncate(file.rawValue, 0) == 0 else { throw .last("truncate \(name)") }
        hasher = StreamHash(digest.algorithm)
        received = 0
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) throws -> Int {
        guard received + UInt64(bytes.count) <= UInt64(size) else {
            unlink(name)
            throw RegistryError.sizeMismatch(
                what: "blob \(digest)", expected: size, found: Int64(received) + Int64(bytes.count))
        }
        hasher.update(bytes)
        try Files.writeAll(bytes, to: file.rawValue, at: received, name: name)
        received += UInt64(bytes.count)
        return bytes.count
    }

    func check(_ what: String) throws(RegistryError) {
        let found = hasher.finish()
        guard found == digest.description else {
            unlink(name)
            throw .digestMismatch(what: what, expected: digest.description, found: found)
        }
    }
}
