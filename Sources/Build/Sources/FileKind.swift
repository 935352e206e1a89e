import Glibc
import Linux

/// What a local file is, by its first bytes.
enum FileKind: Equatable {
    /// A SIF or SquashFS file.
    case image
    /// A tar, compressed or not.
    case archive
    /// An ext2, ext3 or ext4 file system, behind so many bytes.
    case extFileSystem(offset: UInt64)

    /// - Returns: nil for what is none of these.
    static func of(_ path: String) throws -> FileKind? {
        let file = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        var head = [UInt8](repeating: 0, count: 4096)
        let raw = file.rawValue
        let count = head.withUnsafeMutableBytes { pread(raw, $0.baseAddress, $0.count, 0) }
        guard count > 0 else { return nil }
        func matches(_ text: String, at offset: Int) -> Bool { head[offset...].starts(with: Array(text.utf8)) }
        func bytes(_ values: [UInt8], at offset: Int) -> Bool { head[offset...].starts(with: values) }
        if matches("SIF_MAGIC", at: 32) || matches("hsqs", at: 0) { return .image }
        // An image of Singularity 2.x starts with the line that runs it.
        let launch = "#!/usr/bin/env run-singularity\n"
        for offset in [0, launch.utf8.count] where bytes([0x53, 0xef], at: offset + 1024 + 56) {
            if offset == 0 || matches(launch, at: 0) { return .extFileSystem(offset: UInt64(offset)) }
        }
        if matches("ustar", at: 257) || bytes([0x1f, 0x8b], at: 0) || matches("BZh", at: 0)
            || bytes([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], at: 0)
            || bytes([0x28, 0xb5, 0x2f, 0xfd], at: 0)
        {
            return .archive
        }
        return nil
    }
}

/// What the command has to know of a local file.
public enum LocalFile {
    /// Whether it is something to build from as it is, rather than a definition file.
    public static func isImageOrArchive(_ path: String) throws -> Bool { try FileKind.of(path) != nil }
}
