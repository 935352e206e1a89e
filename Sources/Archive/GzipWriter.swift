import CArchive

/// Compresses bytes as they come (gzip, RFC 1952), by libarchive.
public final class GzipWriter {
    private let output: ArchiveOutput

    /// - Parameter output: takes the compressed bytes in order.
    public init(output: @escaping (UnsafeRawBufferPointer) throws -> Void) throws {
        self.output = try ArchiveOutput(output)
        guard let header = archive_entry_new() else { throw ArchiveError.outOfMemory }
        defer { archive_entry_free(header) }
        archive_write_set_format_raw(self.output.archive)
        self.output.addGzip()
        try self.output.open()
        archive_entry_set_filetype(header, 0o100000)
        try self.output.check(archive_write_header(self.output.archive, header))
    }

    public func write(_ bytes: UnsafeRawBufferPointer) throws { try output.write(bytes) }

    public func finish() throws { try output.finish() }
}
