import CArchive

extension TarWriter {
    /// A gzip stream without a tar in it.
    public static func gzip(output: @escaping (UnsafeRawBufferPointer) throws -> Void) throws -> GzipWriter {
        try GzipWriter(output: output)
    }
}

/// Compresses bytes as they come (gzip, RFC 1952), by libarchive.
public final class GzipWriter {
    private let archive: OpaquePointer
    private let output: (UnsafeRawBufferPointer) throws -> Void
    private var failure: (any Error)?

    init(output: @escaping (UnsafeRawBufferPointer) throws -> Void) throws {
        guard let archive = archive_write_new(), let header = archive_entry_new() else { throw ArchiveError.outOfMemory }
        defer { archive_entry_free(header) }
        self.archive = archive
        self.output = output
        archive_write_set_format_raw(archive)
        archive_write_add_filter_gzip(archive)
        archive_write_set_filter_option(archive, "gzip", "timestamp", nil)
        archive_write_set_bytes_in_last_block(archive, 1)
        archive_write_open(
            archive, Unmanaged.passUnretained(self).toOpaque(), nil,
            { _, context, bytes, count in
                guard let context, let bytes else { return -1 }
                let writer = Unmanaged<GzipWriter>.fromOpaque(context).takeUnretainedValue()
                do {
                    try writer.output(UnsafeRawBufferPointer(start: bytes, count: count))
                    return count
                } catch {
                    writer.failure = error
                    return -1
                }
            }, nil)
        archive_entry_set_filetype(header, 0o100000)
        archive_write_header(archive, header)
    }

    deinit { archive_write_free(archive) }

    public func write(_ bytes: UnsafeRawBufferPointer) throws {
        guard archive_write_data(archive, bytes.baseAddress, bytes.count) == bytes.count else {
            throw failure ?? ArchiveError.corrupt(name: "the layer", detail: "write error")
        }
    }

    public func finish() throws {
        guard archive_write_close(archive) == ARCHIVE_OK else {
            throw failure ?? ArchiveError.corrupt(name: "the layer", detail: "write error")
        }
    }
}
