import BlockIO
import Compression
import Linux

/// A SquashFS 4.0 file system, read at random. Safe to use from several threads.
///
/// Nothing in the image is trusted: every position is checked against its size before it is used.
public final class SquashFSImage: Sendable {
    /// The bytes of the file system, from its superblock on.
    public let source: any BlockSource
    /// The superblock, whose values have been checked against the size of the source.
    public let superblock: Superblock
    let metadata: MetadataCache
    let blocks: BlockCache
    let decompressors: DecompressorPool
    private let misses = MissHook()
    private let ids: [UInt32]
    private let fragments: [FragmentEntry]
    private let xattrs: XattrTable?

    struct FragmentEntry: Sendable {
        var start: UInt64
        var word: BlockWord
    }

    /// The path of the file, for messages.
    public var name: String { source.name }
    /// Bytes of a data block before it is compressed: 4 KiB to 1 MiB.
    public var blockSize: Int { Int(superblock.blockSize) }

    /// Reads the superblock and the small tables.
    /// - Parameters:
    ///   - source: starts at the superblock.
    ///   - cacheSize: bytes of decoded data blocks that are kept.
    public init(_ source: any BlockSource, cacheSize: Int = 32 << 20) throws(SquashFSError) {
        self.source = source
        let head: [UInt8]
        do { head = try source.bytes(at: 0, count: min(Superblock.byteCount, Int(clamping: source.size))) } catch {
            throw .block(error)
        }
        let superblock = try Superblock(parsing: head.span.bytes, name: source.name, size: source.size)
        let pool: DecompressorPool
        do { pool = try DecompressorPool(superblock.compressor) } catch {
            throw .compression(name: source.name, error)
        }
        self.superblock = superblock
        decompressors = pool
        metadata = MetadataCache(source, decompressors: pool, end: superblock.bytesUsed, misses: misses)
        blocks = BlockCache(capacity: max(2, cacheSize / Int(superblock.blockSize)), misses: misses)
        let tables = LookupTableReader(metadata: metadata, source: source, end: superblock.bytesUsed)
        let idBytes = try tables.read(at: superblock.idTableStart, entries: Int(superblock.idCount), entrySize: 4)
        ids = try tables.decode(idBytes) { (cursor, bytes) throws(TruncatedError) in try cursor.read(UInt32.self, from: bytes) }
        // A fragment holds at least a byte of a file, so there cannot be more of them than inodes.
        guard superblock.fragmentCount <= superblock.inodeCount else {
            throw .corrupt(name: source.name, what: "\(superblock.fragmentCount) fragments", position: 16)
        }
        let fragmentBytes = try tables.read(
            at: superblock.fragmentTableStart, entries: Int(superblock.fragmentCount), entrySize: 16)
        fragments = try tables.decode(fragmentBytes) { (cursor, bytes) throws(TruncatedError) in
            let start = try cursor.read(UInt64.self, from: bytes)
            let word = BlockWord(rawValue: try cursor.read(UInt32.self, from: bytes))
            try cursor.skip(4, of: bytes)
            return FragmentEntry(start: start, word: word)
        }
        xattrs =
            superblock.xattrTableStart == Superblock.absent
            ? nil : try XattrTable(at: superblock.xattrTableStart, tables: tables)
    }

    /// Calls `body` in a thread that is about to wait for the disk or a decompressor. Set it before there is a second
    /// thread.
    public func beforeWaiting(_ body: @escaping @Sendable () -> Void) { misses.willWait = body }

    func willWait() { misses.willWait?() }

    func corrupt(_ what: String, at position: UInt64) -> SquashFSError {
        .corrupt(name: name, what: what, position: position)
    }

    /// Some file belongs to somebody who is not root.
    public var hasOtherOwners: Bool { ids.contains { $0 != 0 } }

    // MARK: Inodes

    /// The root directory.
    public var root: InodeReference { superblock.rootInode }

    /// Reads an inode.
    public func inode(_ reference: InodeReference) throws(SquashFSError) -> Inode {
        var (reader, type, start) = try inodeReader(reference)
        let mode = try reader.read(UInt16.self)
        let uid = try owner(Int(try reader.read(UInt16.self)), at: start)
        let gid = try owner(Int(try reader.read(UInt16.self)), at: start)
        let time = try reader.read(UInt32.self)
        let number = try reader.read(UInt32.self)
        guard number > 0, number <= superblock.inodeCount else { throw corrupt("inode number \(number)", at: start) }
        var inode = Inode(
            mode: mode & 0o7777, uid: uid, gid: gid, modificationTime: time, number: number, linkCount: 1,
            content: .fifo)
        try readContent(of: &inode, type: type, from: &reader, at: start)
        return inode
    }

    func owner(_ index: Int, at position: UInt64) throws(SquashFSError) -> UInt32 {
        guard index < ids.count else { throw corrupt("owner number \(index) of \(ids.count)", at: position) }
        return ids[index]
    }

    private func readContent(
        of inode: inout Inode, type: UInt16, from reader: inout MetadataReader, at position: UInt64
    ) throws(SquashFSError) {
        let extended = type > 7
        switch type {
        case 1, 8: inode.content = .directory(try readDirectory(&inode, extended: extended, from: &reader))
        case 2, 9: inode.content = .file(try readFile(&inode, extended: extended, from: &reader, at: position))
        case 3, 10:
            inode.linkCount = try reader.read()
            let length = try reader.read(UInt32.self)
            guard (1...4096).contains(length) else { throw corrupt("link of \(length) bytes", at: position) }
            inode.content = .symlink(try reader.read(count: Int(length)))
            if extended { inode.xattrs = try reader.read() }
        case 4, 5, 11, 12:
            inode.linkCount = try reader.read()
            let device = try reader.read(UInt32.self)
            inode.content = type == 4 || type == 11 ? .blockDevice(device) : .characterDevice(device)
            if extended { inode.xattrs = try reader.read() }
        case 6, 7, 13, 14:
            inode.linkCount = try reader.read()
            inode.content = type == 6 || type == 13 ? .fifo : .socket
            if extended { inode.xattrs = try reader.read() }
        default: throw corrupt("inode type \(type)", at: position)
        }
    }

    private func readDirectory(
        _ inode: inout Inode, extended: Bool, from reader: inout MetadataReader
    ) throws(SquashFSError) -> DirectoryLocation {
        var location = DirectoryLocation(block: 0, offset: 0, byteCount: 0, parent: 0)
        var size: UInt32
        if extended {
            inode.linkCount = try reader.read()
            size = try reader.read()
            location.block = try reader.read()
            location.parent = try reader.read()
            let indexCount = try reader.read(UInt16.self)
            location.offset = try reader.read()
            inode.xattrs = try reader.read()
            location.index.reserveCapacity(Int(indexCount))
            for _ in 0..<indexCount {
                let position = try reader.read(UInt32.self)
                let block = try reader.read(UInt32.self)
                let length = try reader.read(UInt32.self)
                guard length < 256 else { throw corrupt("name of \(length) bytes in a directory index", at: reader.block) }
                location.index.append(
                    DirectoryIndexEntry(position: position, block: block, name: try reader.read(count: Int(length) + 1)))
            }
        } else {
            location.block = try reader.read()
            inode.linkCount = try reader.read()
            size = UInt32(try reader.read(UInt16.self))
            location.offset = try reader.read()
            location.parent = try reader.read()
        }
        size = size < 3 ? 3 : size
        location.byteCount = size - 3
        return location
    }

    private func readFile(
        _ inode: inout Inode, extended: Bool, from reader: inout MetadataReader, at position: UInt64
    ) throws(SquashFSError) -> FileLayout {
        let start: UInt64
        var size: UInt64
        let fragment: UInt32
        let fragmentOffset: UInt32
        if extended {
            start = try reader.read()
            size = try reader.read()
            _ = try reader.read(UInt64.self)
            inode.linkCount = try reader.read()
            fragment = try reader.read()
            fragmentOffset = try reader.read()
            inode.xattrs = try reader.read()
        } else {
            start = UInt64(try reader.read(UInt32.self))
            fragment = try reader.read()
            fragmentOffset = try reader.read()
            size = UInt64(try reader.read(UInt32.self))
        }
        let hasFragment = fragment != UInt32.max
        let blockCount = size / UInt64(blockSize) + (!hasFragment && size % UInt64(blockSize) != 0 ? 1 : 0)
        // The words stand in the inode table: more of them than it can hold plain bytes for is a lie.
        let tableBytes = (superblock.directoryTableStart - superblock.inodeTableStart) * 8192
        guard blockCount <= tableBytes / 4 else { throw corrupt("file of \(size) bytes", at: position) }
        if hasFragment {
            let tail = Int(size % UInt64(blockSize))
            guard fragment < fragments.count, Int(fragmentOffset) + tail <= blockSize else {
                throw corrupt("fragment \(fragment) of \(fragments.count)", at: position)
            }
        }
        return FileLayout(
            start: start, size: size, blocks: try readWords(Int(blockCount), from: &reader, at: position),
            fragment: hasFragment ? fragment : nil, fragmentOffset: fragmentOffset)
    }

    private func readWords(
        _ count: Int, from reader: inout MetadataReader, at position: UInt64
    ) throws(SquashFSError) -> [BlockWord] {
        var words: [BlockWord] = []
        words.reserveCapacity(min(count, 1 << 16))
        for _ in 0..<count {
            let word = BlockWord(rawValue: try reader.read())
            guard word.storedBytes <= blockSize, word.rawValue >> 25 == 0 else {
                throw corrupt("block of \(word.storedBytes) bytes", at: position)
            }
            words.append(word)
        }
        return words
    }

    // MARK: Extended attributes

    /// The extended attributes of an inode, in stored order.
    public func xattrs(of inode: Inode) throws(SquashFSError) -> [Xattr] {
        guard inode.xattrs != Inode.noXattrs, let xattrs else { return [] }
        return try xattrs.attributes(inode.xattrs, in: self)
    }

    // MARK: Fragments

    /// Where a fragment block is stored.
    func fragment(_ index: UInt32) throws(SquashFSError) -> FragmentEntry {
        guard index < fragments.count else { throw corrupt("fragment \(index) of \(fragments.count)", at: 16) }
        return fragments[Int(index)]
    }
}
