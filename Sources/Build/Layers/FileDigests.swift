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

    /// The digest of a file's content.
    func digest(of path: String) throws -> String {
        let file = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        let status = try Files.status(file.rawValue, name: path)
        guard status.st_mode & S_IFMT == S_IFREG else { throw BuildError.badSource(path, why: "it is not a file") }
        let identity =
            "\(status.st_dev)-\(status.st_ino)-\(status.st_size)-\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)-\(status.st_ctim.tv_sec).\(status.st_ctim.tv_nsec)"
        let place = "\(folder)/\(identity)"
        // Small ones are read faster than found.
        let isRemembered = status.st_size > 1 << 20
        if isRemembered, let known = try? Files.readText(place, limit: 100), known.count == 64 { return known }
        let digest = try Self.hash(file, name: path)
        if isRemembered, willRemember(status) {
            try? Files.makeDirectories(folder, mode: 0o700)
            try? Files.replace(place, with: Array(digest.utf8), mode: 0o600)
        }
        return digest
    }

    /// A file that changes just now may change again within the same tick of the clock.
    func willRemember(_ status: stat) -> Bool { time(nil) - status.st_mtim.tv_sec > 2 }

    private static func hash(_ file: borrowing OwnedDescriptor, name: String) throws -> String {
        var hasher = SHA256()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        let raw = file.rawValue
        while true {
            let count = retryingOnInterrupt { read(raw, buffer.baseAddress, buffer.count) }
            if count < 0 { throw SystemError.last("read \(name)") }
            if count == 0 { return hasher.finalize().hexadecimal }
            hasher.update(bufferPointer: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
    }
}
