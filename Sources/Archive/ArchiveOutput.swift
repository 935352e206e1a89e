import CArchive

/// A writer of libarchive and where its bytes go.
final class ArchiveOutput {
    let archive: OpaquePointer
    private let output: (UnsafeRawBufferPointer) throws -> Void
    /// What `output` threw, which libarchive can only hand on as "failed".
    private var failure: (any Error)?

    /// - Parameter output: takes the bytes in order.
    init(_ output: @escaping (UnsafeRawBufferPointer) throws -> Void) throws {
        guard let archive = archive_write_new() else { throw ArchiveError.outOfMemory }
        self.archive = archive
        self.output = output
        archive_write_set_bytes_in_last_block(archive, 1)
    }

    deinit { archive_write_free(archive) }

    /// Begins to write, once format and filters are set.
    func open() throws {
        try check(
            archive_write_open(
                archive, Unmanaged.passUnretained(self).toOpaque(), nil,
                { _, context, bytes, count in
                    guard let context, let bytes else { return -1 }
                    let writer = Unmanaged<ArchiveOutput>.fromOpaque(context).takeUnretainedValue()
                    do {
                        try writer.output(UnsafeRawBufferPointer(start: bytes, count: count))
                        return count
                    } catch {
                        writer.failure = error
                        return -1
                    }
                }, nil))
    }

    func check(_ status: CInt) throws {
        if let failure { throw failure }
        guard status == ARCHIVE_OK || status == ARCHIVE_WARN else {
            let detail = archive_error_string(archive).map { String(cString: $0) } ?? "write error"
            throw ArchiveError.corrupt(name: "the archive", detail: detail)
        }
    }

    /// Writes bytes of the current entry.
    func write(_ bytes: UnsafeRawBufferPointer) throws {
        guard archive_write_data(archive, bytes.baseAddress, bytes.count) == bytes.count else { return try check(ARCHIVE_FATAL) }
    }

    /// Writes the end.
    func finish() throws { try check(archive_write_close(archive)) }
}
