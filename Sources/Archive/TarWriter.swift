import BlockIO
import CArchive
import Glibc

/// Writes a tar stream (pax, where ustar has no room), by libarchive.
public final class TarWriter {
    private let archive: OpaquePointer
    private let output: (UnsafeRawBufferPointer) throws -> Void
    private var failure: (any Error)?

    public enum Compression: Sendable {
        case none, gzip, zstd
    }

    /// - Parameter output: takes the bytes in order.
    public init(_ compression: Compression, output: @escaping (UnsafeRawBufferPointer) throws -> Void) throws {
        guard let archive = archive_write_new() else { throw ArchiveError.outOfMemory }
        self.archive = archive
        self.output = output
        archive_write_set_format_pax_restricted(archive)
        switch compression {
        case .none: archive_write_add_filter_none(archive)
        case .gzip:
            archive_write_add_filter_gzip(archive)
            // Without the time of writing, equal input is equal output.
            archive_write_set_filter_option(archive, "gzip", "timestamp", nil)
        case .zstd: archive_write_add_filter_zstd(archive)
        }
        archive_write_set_bytes_in_last_block(archive, 1)
        let context = Unmanaged.passUnretained(self).toOpaque()
        let status = archive_write_open(
            archive, context, nil,
            { _, context, bytes, count in
                guard let context, let bytes else { return -1 }
                let writer = Unmanaged<TarWriter>.fromOpaque(context).takeUnretainedValue()
                do {
                    try writer.output(UnsafeRawBufferPointer(start: bytes, count: count))
                    return count
                } catch {
                    writer.failure = error
                    return -1
                }
            }, nil)
        try check(status)
    }

    deinit { archive_write_free(archive) }

    private func check(_ status: CInt) throws {
        if let failure { throw failure }
        guard status == ARCHIVE_OK || status == ARCHIVE_WARN else {
            throw ArchiveError.corrupt(
                name: "the archive", detail: archive_error_string(archive).map { String(cString: $0) } ?? "write error")
        }
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
        try check(archive_write_header(archive, header))
        guard let content, case .file = entry.kind else { return }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        while true {
            let count = try content.read(into: buffer)
            if count == 0 { return }
            guard archive_write_data(archive, buffer.baseAddress, count) == count else { return try check(ARCHIVE_FATAL) }
        }
    }

    private static func set(_ bytes: [UInt8], _ body: (UnsafePointer<CChar>) -> Void) {
        (bytes + [0]).withUnsafeBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            body(base.assumingMemoryBound(to: CChar.self))
        }
    }

    /// Writes the end of the archive.
    public func finish() throws { try check(archive_write_close(archive)) }
}
