import BlockIO
import CExt2
import Glibc
import Linux

/// An ext2, ext3 or ext4 file system in a file, read by libext2fs.
///
/// `@unchecked Sendable`: libext2fs is not safe for threads; streams, which are all that several threads may use at once, take
/// ``lock``.
public final class ExtImage: @unchecked Sendable {
    fileprivate let lock = Monitor()
    /// Of the file, for messages.
    public let name: String
    private let system: ext2_filsys
    /// Where libext2fs finds the blocks.
    private let store: UnsafeMutablePointer<cext2_store>
    private let source: Source

    /// Blocks for libext2fs, which only reads.
    private final class Source {
        let storage: any VolumeStorage
        init(_ storage: any VolumeStorage) { self.storage = storage }
    }

    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    /// An inode without its content.
    public struct Inode: Sendable {
        public enum Kind: Sendable, Equatable {
            case directory, file, fifo, socket
            case symlink([UInt8])
            /// Major and minor number.
            case blockDevice(UInt32, UInt32)
            case characterDevice(UInt32, UInt32)
        }

        public var number: UInt32
        public var kind: Kind
        /// Permission bits, 0o7777.
        public var mode: UInt16
        public var uid: UInt32
        public var gid: UInt32
        /// Bytes.
        public var size: UInt64
        /// Unix seconds.
        public var modificationTime: Int64
        public var linkCount: UInt16
    }

    /// The root directory.
    public static let root: UInt32 = 2

    /// - Parameter name: for messages.
    public init(_ storage: any VolumeStorage, name: String) throws(Failure) {
        self.name = name
        source = Source(storage)
        store = .allocate(capacity: 1)
        store.initialize(
            to: cext2_store(
                object: Unmanaged.passUnretained(source).toOpaque(),
                read: { object, offset, count, bytes in
                    guard let object, let bytes else { return EINVAL }
                    return Unmanaged<Source>.fromOpaque(object).takeUnretainedValue().storage
                        .read(at: offset, UnsafeMutableRawBufferPointer(start: bytes, count: count))
                },
                write: { _, _, _, _ in EROFS }))
        var opened: ext2_filsys?
        let status = cext2_open(store, name, EXT2_FLAG_64BITS | EXT2_FLAG_IGNORE_CSUM_ERRORS, &opened)
        guard status == 0, let opened else {
            store.deallocate()
            throw Failure(description: "\(name) has no ext file system that can be read (\(Self.text(status)))")
        }
        system = opened
    }

    deinit {
        ext2fs_free(system)
        store.deallocate()
    }

    private static func text(_ status: errcode_t) -> String { error_message(status).map { String(cString: $0) } ?? "error \(status)" }

    private func check(_ status: errcode_t, _ what: String) throws(Failure) {
        if status != 0 { throw Failure(description: "\(name): \(what): \(Self.text(status))") }
    }

    /// Inodes that the file system can have.
    public var inodeLimit: Int { Int(system.pointee.super.pointee.s_inodes_count) }

    /// Reads an inode.
    public func inode(_ number: UInt32) throws(Failure) -> Inode {
        var raw = ext2_inode()
        try check(ext2fs_read_inode(system, number, &raw), "inode \(number)")
        let format = raw.i_mode & 0o170000
        let size = UInt64(raw.i_size) | (format == 0o100000 ? UInt64(raw.i_size_high) << 32 : 0)
        let kind: Inode.Kind
        switch format {
        case 0o040000: kind = .directory
        case 0o100000: kind = .file
        case 0o120000: kind = .symlink(try target(number, &raw, size))
        case 0o060000:
            let (major, minor) = Self.device(raw)
            kind = .blockDevice(major, minor)
        case 0o020000:
            let (major, minor) = Self.device(raw)
            kind = .characterDevice(major, minor)
        case 0o010000: kind = .fifo
        case 0o140000: kind = .socket
        default: throw Failure(description: "\(name): inode \(number) is of an unknown type")
        }
        return Inode(
            number: number, kind: kind, mode: raw.i_mode & 0o7777,
            uid: UInt32(raw.i_uid) | UInt32(raw.osd2.linux2.l_i_uid_high) << 16,
            gid: UInt32(raw.i_gid) | UInt32(raw.osd2.linux2.l_i_gid_high) << 16, size: size,
            modificationTime: Int64(Int32(bitPattern: raw.i_mtime)), linkCount: raw.i_links_count)
    }

    private static func device(_ raw: ext2_inode) -> (UInt32, UInt32) {
        let old = raw.i_block.0
        if old != 0 { return (old >> 8 & 0xff, old & 0xff) }
        let new = raw.i_block.1
        return (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xfff00)
    }

    private func target(_ number: UInt32, _ raw: inout ext2_inode, _ size: UInt64) throws(Failure) -> [UInt8] {
        guard (1...4096).contains(size) else { throw Failure(description: "\(name): inode \(number) is a link of \(size) bytes") }
        if ext2fs_is_fast_symlink(&raw) != 0 {
            return withUnsafeBytes(of: raw.i_block) { Array($0.prefix(Int(size))) }
        }
        let stream = try content(number)
        var bytes = [UInt8](repeating: 0, count: Int(size))
        do {
            let count = try bytes.withUnsafeMutableBytes { try stream.fill($0) }
            return Array(bytes.prefix(count))
        } catch { throw Failure(description: "\(error)") }
    }

    private final class Names {
        var all: [(name: [UInt8], inode: UInt32)] = []
    }

    /// Names in a directory without `.` and `..`.
    public func entries(_ number: UInt32) throws(Failure) -> [(name: [UInt8], inode: UInt32)] {
        let names = Names()
        let status = ext2fs_dir_iterate2(
            system, number, 0, nil,
            { _, _, entry, _, _, _, context in
                guard let entry, let context else { return 0 }
                let length = Int(entry.pointee.name_len & 0xff)
                let bytes = withUnsafeBytes(of: entry.pointee.name) { Array($0.prefix(length)) }
                if bytes != [0x2e], bytes != [0x2e, 0x2e], entry.pointee.inode != 0 {
                    Unmanaged<Names>.fromOpaque(context).takeUnretainedValue().all.append((bytes, entry.pointee.inode))
                }
                return 0
            }, Unmanaged.passUnretained(names).toOpaque())
        try check(status, "directory \(number)")
        return names.all
    }

    /// A file's content in order.
    public func content(_ number: UInt32) throws(Failure) -> ExtStream {
        var file: ext2_file_t?
        try check(lock.locked { ext2fs_file_open(system, number, 0, &file) }, "inode \(number)")
        guard let file else { throw Failure(description: "\(name): inode \(number) cannot be opened") }
        return ExtStream(self, file)
    }

    private final class Attributes {
        var all: [(name: String, value: [UInt8])] = []
    }

    /// Extended attributes with their full names.
    public func attributes(_ number: UInt32) -> [(name: String, value: [UInt8])] {
        var handle: OpaquePointer?
        guard ext2fs_xattrs_open(system, number, &handle) == 0, handle != nil else { return [] }
        defer { ext2fs_xattrs_close(&handle) }
        guard ext2fs_xattrs_read(handle) == 0 else { return [] }
        let found = Attributes()
        ext2fs_xattrs_iterate(
            handle,
            { name, value, count, context in
                guard let name, let context else { return 0 }
                let bytes = value.map { Array(UnsafeRawBufferPointer(start: $0, count: count)) } ?? []
                Unmanaged<Attributes>.fromOpaque(context).takeUnretainedValue().all.append((String(cString: name), bytes))
                return 0
            }, Unmanaged.passUnretained(found).toOpaque())
        return found.all
    }
}

/// The bytes of one file of an ``ExtImage``.
public final class ExtStream: ByteStream {
    private let image: ExtImage
    private let file: ext2_file_t

    fileprivate init(_ image: ExtImage, _ file: ext2_file_t) {
        self.image = image
        self.file = file
    }

    deinit { _ = image.lock.locked { ext2fs_file_close(file) } }

    public func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        var count: UInt32 = 0
        let status = image.lock.locked { ext2fs_file_read(file, buffer.baseAddress, UInt32(clamping: buffer.count), &count) }
        guard status == 0 else { throw ExtImage.Failure(description: "\(image.name): a file's data cannot be read (error \(status))") }
        return Int(count)
    }
}
