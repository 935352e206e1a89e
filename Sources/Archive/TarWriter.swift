import BlockIO
import CArchive
import Glibc

/// Writes a tar stream (pax, where ustar has no room), by libarchive.
public final class TarWriter {
    private let output: ArchiveOutput

    public enum Compression: Sendable {
        case none, zstd
    }

    /// - Parameter output: takes the bytes in order.
    public init(_ compression: Compression, output: @escaping (UnsafeRawBufferPointer) throws -> Void) throws {
        self.output = try ArchiveOutput(output)
        archive_write_set_format_pax_restricted(self.output.archive)
        switch compression {
        case .none: archive_write_add_filter_none(self.output.archive)
        case .zstd: archive_write_add_filter_zstd(self.output.archive)
        }
        try self.output.open()
    }

    /// Adds an entry.
    /// - Parameter content: of a file; its bytes must be as many as the entry says.
    public func add(_ entry: TarEntry, content: (any ByteStream)? = nil) throws {
        guard let header = archive_entry_new() else { throw ArchiveError.outOfMemory }
        defer { archive_entry_free(header) }
        Self.set(entry.path) { archive_entry_set_pathname(header, $0) }
        archive_entry_set_perm(header, mode_t(entry.mode))
        archive_entry_set_uid(header, entry.uid)
        archive_entry_set_gid(header, entry.gid)
        archive_entry_set_mtime(header, time_t(entry.modificationTime), 0)
        switch entry.kind {
        case .directory: archive_entry_set_filetype(header, 0o040000)
        case .file:
            archive_entry_set_filetype(header, 0o100000)
            archive_entry_set_size(header, entry.size)
        case .symlink(let target):
            archive_entry_set_filetype(header, 0o120000)
            Self.set(target) { archive_entry_set_symlink(header, $0) }
        case .hardLink(let target): Self.set(target) { archive_entry_set_hardlink(header, $0) }
        case .blockDevice(let number):
            archive_entry_set_filetype(header, 0o060000)
            archive_entry_set_rdev(header, dev_t(number))
        case .characterDevice(let number):
            archive_entry_set_filetype(header, 0o020000)
            archive_entry_set_rdev(header, dev_t(number))
        case .fifo: archive_entry_set_filetype(header, 0o010000)
        case .socket: return
        }
        for (name, value) in entry.xattrs { archive_entry_xattr_add_entry(header, name, value, value.count) }
        try output.check(archive_write_header(output.archive, header))
        guard let content, case .file = entry.kind else { return }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        while true {
            let count = try content.read(into: buffer)
            if count == 0 { return }
            try output.write(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        }
    }

    private static func set(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> Void) {
        (bytes + [0]).withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            body(base.assumingMemoryBound(to: CChar.self))
        }
    }

    /// Writes the end of the archive.
    public func finish() throws { try output.finish() }
}
