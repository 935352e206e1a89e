import BlockIO
import CArchive
import Glibc

/// Reads a tar stream (ustar, pax, GNU, with long names and sparse files) entry by entry, by libarchive.
///
/// Its data come from a ``ByteStream``; one file's content must be read before ``next()`` is called again.
public final class TarReader {
    /// What the archive is called in messages.
    public let name: String
    private let archive: OpaquePointer
    private let input: any ByteStream
    private let buffer: UnsafeMutableRawBufferPointer
    /// An error of the input stream, which libarchive can only hand on as "failed".
    /// Bytes that libarchive has got.
    private var supplied: UInt64 = 0
    private var inputFailure: (any Error)?

    /// - Parameter input: plain tar; see `DecompressingStream` for others.
    public init(_ input: any ByteStream, name: String) throws(ArchiveError) {
        // Names in pax headers are UTF-8 and are handed out in the locale's encoding: make that the same.
        setlocale(LC_CTYPE, "C.UTF-8")
        guard let archive = archive_read_new() else { throw .outOfMemory }
        self.name = name
        self.archive = archive
        self.input = input
        buffer = .allocate(byteCount: 1 << 20, alignment: 4096)
        archive_read_support_format_tar(archive)
        if input is any SkippingStream {
            archive_read_set_skip_callback(archive) { archive, context, count in
                guard let context else { return 0 }
                let reader = Unmanaged<TarReader>.fromOpaque(context).takeUnretainedValue()
                return (reader.input as? any SkippingStream)?.skip(count) ?? 0
            }
        }
        let status = archive_read_open(
            archive, Unmanaged.passUnretained(self).toOpaque(), nil,
            { archive, context, out in
                guard let context else { return -1 }
                return Unmanaged<TarReader>.fromOpaque(context).takeUnretainedValue().supply(out)
            }, nil)
        // An empty stream is an empty archive: a layer without changes may be one.
        guard status == ARCHIVE_OK || inputFailure != nil || supplied == 0 else {
            throw .corrupt(name: name, detail: errorText)
        }
    }

    deinit {
        archive_read_free(archive)
        buffer.deallocate()
    }

    private func supply(_ out: UnsafeMutablePointer<UnsafeRawPointer?>?) -> Int {
        do {
            let count = try input.read(into: buffer)
            supplied += UInt64(count)
            out?.pointee = UnsafeRawPointer(buffer.baseAddress)
            return count
        } catch {
            inputFailure = error
            return -1
        }
    }

    private var errorText: String { archive_error_string(archive).map { String(cString: $0) } ?? "unknown error" }

    /// The error to throw after a call of libarchive has failed.
    private var failure: any Error { inputFailure ?? ArchiveError.corrupt(name: name, detail: errorText) }

    /// The next entry, nil at the end of the archive.
    public func next() throws -> TarEntry? {
        var header: OpaquePointer?
        let status = archive_read_next_header(archive, &header)
        if let inputFailure { throw inputFailure }
        if status == ARCHIVE_EOF {
            // What follows the end mark belongs to the stream all the same: its digest covers it.
            while try input.read(into: buffer) > 0 {}
            return nil
        }
        // libarchive asks to go on after a damaged header; what follows could be anything.
        guard status == ARCHIVE_OK || status == ARCHIVE_WARN, let header else { throw failure }
        return try entry(header)
    }

    private func entry(_ header: OpaquePointer) throws -> TarEntry {
        guard let path = archive_entry_pathname(header).map(Self.bytes) else {
            throw ArchiveError.corrupt(name: name, detail: "an entry without a usable name")
        }
        return TarEntry(
            path: path, kind: try kind(header, path: path), mode: UInt16(archive_entry_perm(header) & 0o7777),
            uid: archive_entry_uid(header), gid: archive_entry_gid(header),
            modificationTime: Int64(archive_entry_mtime(header)), size: archive_entry_size(header),
            xattrs: Self.xattrs(header))
    }

    private func kind(_ header: OpaquePointer, path: [UInt8]) throws -> TarEntry.Kind {
        if let target = archive_entry_hardlink(header) { return .hardLink(target: Self.bytes(target)) }
        switch mode_t(archive_entry_filetype(header)) {
        case S_IFREG: return .file
        case S_IFDIR: return .directory
        case S_IFLNK: return .symlink(target: archive_entry_symlink(header).map(Self.bytes) ?? [])
        case S_IFBLK: return .blockDevice(UInt64(archive_entry_rdev(header)))
        case S_IFCHR: return .characterDevice(UInt64(archive_entry_rdev(header)))
        case S_IFIFO: return .fifo
        case S_IFSOCK: return .socket
        default:
            throw ArchiveError.corrupt(
                name: name, detail: "\"\(String(decoding: path, as: UTF8.self))\" is of an unknown type")
        }
    }

    private static func bytes(_ text: UnsafePointer<CChar>) -> [UInt8] {
        [UInt8](UnsafeRawBufferPointer(start: text, count: strlen(text)))
    }

    private static func xattrs(_ header: OpaquePointer) -> [(name: String, value: [UInt8])] {
        guard archive_entry_xattr_reset(header) > 0 else { return [] }
        var out: [(name: String, value: [UInt8])] = []
        var name: UnsafePointer<CChar>?
        var value: UnsafeRawPointer?
        var count = 0
        while archive_entry_xattr_next(header, &name, &value, &count) == ARCHIVE_OK {
            guard let name else { continue }
            out.append((String(cString: name), [UInt8](UnsafeRawBufferPointer(start: value, count: count))))
        }
        return out
    }

    /// The content of the entry that ``next()`` returned last, holes filled with zeros.
    /// - Parameter size: bytes that the header promises; fewer or more are an error.
    public func content(size: Int64, path: [UInt8]) -> TarContent { TarContent(self, size: size, path: path) }

    /// The next run of bytes of the current entry.
    fileprivate func block() throws -> (bytes: UnsafeRawBufferPointer, offset: Int64)? {
        var pointer: UnsafeRawPointer?
        var count = 0
        var offset: Int64 = 0
        let status = archive_read_data_block(archive, &pointer, &count, &offset)
        if status == ARCHIVE_EOF { return nil }
        guard status == ARCHIVE_OK || status == ARCHIVE_WARN else { throw failure }
        return (UnsafeRawBufferPointer(start: pointer, count: count), offset)
    }
}

/// The bytes of one entry of a tar.
public final class TarContent: ByteStream {
    private let reader: TarReader
    private let size: Int64
    private let path: [UInt8]
    private var position: Int64 = 0
    private var pending = UnsafeRawBufferPointer(start: nil, count: 0)
    private var pendingOffset: Int64 = 0

    fileprivate init(_ reader: TarReader, size: Int64, path: [UInt8]) {
        self.reader = reader
        self.size = size
        self.path = path
    }

    public func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while position < size {
            if pending.isEmpty {
                if let block = try reader.block() {
                    pending = block.bytes
                    pendingOffset = block.offset
                    guard pendingOffset >= position, pendingOffset + Int64(pending.count) <= size else { throw lie }
                    continue
                }
                pendingOffset = size
            }
            if pendingOffset > position { return hole(into: buffer) }
            let count = min(buffer.count, pending.count)
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: pending[..<count]))
            pending = UnsafeRawBufferPointer(rebasing: pending[count...])
            pendingOffset += Int64(count)
            position += Int64(count)
            return count
        }
        return 0
    }

    private func hole(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        let count = Int(min(Int64(buffer.count), pendingOffset - position))
        UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]).initializeMemory(as: UInt8.self, repeating: 0)
        position += Int64(count)
        return count
    }

    private var lie: ArchiveError {
        .corrupt(name: reader.name, detail: "\"\(String(decoding: path, as: UTF8.self))\" has more data than its size says")
    }
}
