import Crypto
import Glibc
import Linux

/// SHA-256 of files, remembered as long as a file's times and size are the same.
struct FileDigests {
    /// Where they are remembered.
    let folder: String

    /// Whether a file may have a content that was hashed before, under any name: no other one has the same size.
    /// - Parameter status: of the file.
    func mayKnow(contentOf status: stat) -> Bool {
        let size = "\(status.st_size)"
        return ((try? Files.entries(folder)) ?? []).contains { name in
            let parts = name.split(separator: "-")
            return parts.count > 2 && parts[2] == size
        }
    }

    /// The digest of a file's content. Of several processes that want one that is not remembered, one hashes and the others wait.
    func digest(of path: String) throws -> String {
        let file = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        let status = try Self.status(of: file, path)
        // Small ones are read faster than found.
        guard status.st_size > 1 << 20 else { return try Self.hash(file, name: path) }
        let place = place(of: status)
        if let known = Self.remembered(place) { return known }
        guard willRemember(status) else { return try Self.hash(file, name: path) }
        var outcome: Result<String, any Error>?
        let isThere = {
            if let known = Self.remembered(place) { outcome = .success(known) }
            return outcome != nil
        }
        try? Files.makeDirectories(folder, mode: 0o700)
        // Where nothing can be kept, nobody waits for another one.
        _ = try? Lease.makeOnce(place + Self.leaseEnding, isThere: isThere) { lease in
            outcome = Result { try Self.complete(file, path, place, lease) }
        }
        return try outcome?.get() ?? Self.hash(file, name: path)
    }

    /// The right to hash a file; nil where another process is about to, or nothing can be kept.
    /// - Parameter status: of the file.
    func begin(_ status: stat) -> Lease? {
        try? Files.makeDirectories(folder, mode: 0o700)
        return (try? Lease.take(place(of: status) + Self.leaseEnding)) ?? nil
    }

    /// The digest of a file's content, which is hashed and remembered.
    /// - Parameter lease: from ``begin(_:)``.
    func digest(of path: String, _ lease: Lease) throws -> String {
        defer { lease.release() }
        let file = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        return try Self.complete(file, path, place(of: Self.status(of: file, path)), lease)
    }

    private static func complete(_ file: borrowing OwnedDescriptor, _ path: String, _ place: String, _ lease: Lease) throws -> String {
        let digest = try hash(file, name: path, lease)
        // Without it the file is hashed again another time.
        try? Files.replace(place, with: Array(digest.utf8), mode: 0o600)
        return digest
    }

    static let leaseEnding = ".lease"

    private func place(of status: stat) -> String {
        let identity =
            "\(status.st_dev)-\(status.st_ino)-\(status.st_size)-\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)-\(status.st_ctim.tv_sec).\(status.st_ctim.tv_nsec)"
        return "\(folder)/\(identity)"
    }

    private static func remembered(_ place: String) -> String? {
        guard let text = try? Files.readText(place, limit: 100), text.count == 64 else { return nil }
        return text
    }

    private static func status(of file: borrowing OwnedDescriptor, _ path: String) throws -> stat {
        let status = try Files.status(file.rawValue, name: path)
        guard status.st_mode & S_IFMT == S_IFREG else { throw BuildError.badSource(path, why: "it is not a file") }
        return status
    }

    /// A file that changes just now may change again within the same tick of the clock.
    func willRemember(_ status: stat) -> Bool { time(nil) - status.st_mtim.tv_sec > 2 }

    /// - Parameter lease: is renewed meanwhile.
    private static func hash(_ file: borrowing OwnedDescriptor, name: String, _ lease: Lease? = nil) throws -> String {
        var hasher = SHA256()
        var unsaid = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        let raw = file.rawValue
        while true {
            let count = retryingOnInterrupt { read(raw, buffer.baseAddress, buffer.count) }
            if count < 0 { throw SystemError.last("read \(name)") }
            if count == 0 { return hasher.finalize().hexadecimal }
            hasher.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            unsaid += count
            if unsaid >= 256 << 20 {
                lease?.renew()
                unsaid = 0
            }
        }
    }
}
