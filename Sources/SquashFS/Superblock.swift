import BlockIO
import Compression

/// The first 96 bytes of a SquashFS 4.0 file system. Positions are bytes from its start.
public struct Superblock: Equatable, Sendable {
    /// `hsqs`, the first four bytes.
    public static let magic: UInt32 = 0x7371_7368
    /// Bytes that the superblock takes.
    public static let byteCount = 96
    /// The position of a table that is not there.
    public static let absent = UInt64.max

    /// Bits of ``flags``, "SquashFS 4.0, superblock".
    public enum Flag {
        /// Flag: equal files are stored once.
        public static let duplicatesRemoved: UInt16 = 0x0040
        /// Flag: there is a table for NFS, by inode number.
        public static let exportable: UInt16 = 0x0080
        /// Flag: there are no extended attributes.
        public static let noXattrs: UInt16 = 0x0200
        /// Flag: options of the compressor follow the superblock.
        public static let compressorOptions: UInt16 = 0x0400
    }

    /// Inodes of the image.
    public var inodeCount: UInt32 = 0
    /// Unix seconds.
    public var modificationTime: UInt32 = 0
    /// Bytes, a power of two from 4096 to 1 MiB.
    public var blockSize: UInt32 = 131_072
    /// Fragments of the image.
    public var fragmentCount: UInt32 = 0
    /// Of data, fragments and metadata.
    public var compressor = Compressor.zstd
    /// A sum of the constants here.
    public var flags: UInt16 = 0
    /// Different users and groups of the image.
    public var idCount: UInt16 = 0
    /// The root directory.
    public var rootInode = InodeReference(rawValue: 0)
    /// Where the last table ends.
    public var bytesUsed: UInt64 = 0
    /// Where the id table begins, bytes from the superblock.
    public var idTableStart: UInt64 = 0
    /// Where the table of extended attributes begins; ``absent`` where there is none.
    public var xattrTableStart = Superblock.absent
    /// Where the inode table begins, bytes from the superblock.
    public var inodeTableStart: UInt64 = 0
    /// Where the directory table begins, bytes from the superblock.
    public var directoryTableStart: UInt64 = 0
    /// Where the fragment table begins; ``absent`` where there is none.
    public var fragmentTableStart = Superblock.absent
    /// Where the table for NFS begins; ``absent`` where there is none.
    public var exportTableStart = Superblock.absent

    /// The superblock of an image without inodes.
    public init() {}

    /// Reads and checks a superblock.
    /// - Parameter size: bytes of the source, which the positions must not pass.
    public init(parsing bytes: RawSpan, name: String, size: UInt64) throws(SquashFSError) {
        var cursor = Cursor()
        do throws(TruncatedError) {
            guard try cursor.read(UInt32.self, from: bytes) == Self.magic else {
                throw TruncatedError(offset: 0, needed: 4)
            }
        } catch { throw .notSquashFS(name: name) }
        var compressorNumber: UInt16 = 0
        var blockLog: UInt16 = 0
        var major: UInt16 = 0
        var minor: UInt16 = 0
        do throws(TruncatedError) {
            inodeCount = try cursor.read(from: bytes)
            modificationTime = try cursor.read(from: bytes)
            blockSize = try cursor.read(from: bytes)
            fragmentCount = try cursor.read(from: bytes)
            compressorNumber = try cursor.read(from: bytes)
            blockLog = try cursor.read(from: bytes)
            flags = try cursor.read(from: bytes)
            idCount = try cursor.read(from: bytes)
            major = try cursor.read(from: bytes)
            minor = try cursor.read(from: bytes)
            rootInode = InodeReference(rawValue: try cursor.read(from: bytes))
            bytesUsed = try cursor.read(from: bytes)
            idTableStart = try cursor.read(from: bytes)
            xattrTableStart = try cursor.read(from: bytes)
            inodeTableStart = try cursor.read(from: bytes)
            directoryTableStart = try cursor.read(from: bytes)
            fragmentTableStart = try cursor.read(from: bytes)
            exportTableStart = try cursor.read(from: bytes)
        } catch { throw .notSquashFS(name: name) }
        guard major == 4, minor == 0 else {
            throw .unsupported(name: name, what: "SquashFS version \(major).\(minor)")
        }
        guard let compressor = Compressor(rawValue: compressorNumber) else {
            throw .unsupported(name: name, what: "compressor number \(compressorNumber)")
        }
        self.compressor = compressor
        try check(blockLog: blockLog, name: name, size: size)
    }

    private func check(blockLog: UInt16, name: String, size: UInt64) throws(SquashFSError) {
        func require(_ condition: Bool, _ what: String, _ position: UInt64) throws(SquashFSError) {
            guard condition else { throw .corrupt(name: name, what: what, position: position) }
        }
        try require((12...20).contains(blockLog) && blockSize == 1 << UInt32(blockLog), "block size \(blockSize)", 12)
        try require(
            bytesUsed >= UInt64(Self.byteCount) && bytesUsed <= size,
            "file system of \(bytesUsed) bytes in \(size) bytes (the file is cut short)", 40)
        try require(idCount > 0, "no owner in the id table", 26)
        try require(inodeCount > 0, "no inode", 4)
        try require(inodeTableStart < directoryTableStart, "order of the inode and directory tables", 64)
        try require(directoryTableStart <= bytesUsed && idTableStart < bytesUsed, "position of a table", 48)
        try require(fragmentCount == 0 || fragmentTableStart < bytesUsed, "position of the fragment table", 80)
        try require(xattrTableStart == Self.absent || xattrTableStart < bytesUsed, "position of the xattr table", 56)
        try require(rootInode.offset < MetadataBlock.capacity, "root inode", 32)
    }

    /// The 96 bytes as they stand in the image.
    public var bytes: [UInt8] {
        var out: [UInt8] = []
        out.append(littleEndian: Self.magic)
        out.append(littleEndian: inodeCount)
        out.append(littleEndian: modificationTime)
        out.append(littleEndian: blockSize)
        out.append(littleEndian: fragmentCount)
        out.append(littleEndian: compressor.rawValue)
        out.append(littleEndian: UInt16(blockSize.trailingZeroBitCount))
        out.append(littleEndian: flags)
        out.append(littleEndian: idCount)
        out.append(littleEndian: UInt16(4))
        out.append(littleEndian: UInt16(0))
        out.append(littleEndian: rootInode.rawValue)
        for position in [
            bytesUsed, idTableStart, xattrTableStart, inodeTableStart, directoryTableStart, fragmentTableStart,
            exportTableStart,
        ] { out.append(littleEndian: position) }
        return out
    }
}

/// Where an inode stands: a metadata block, relative to the inode table, and an offset in its plain bytes.
public struct InodeReference: Hashable, Sendable {
    /// As stored: 48 bits of block, 16 bits of offset.
    public let rawValue: UInt64
    /// - Parameter rawValue: as stored.
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// - Parameters:
    ///   - block: of metadata, bytes from the start of its table.
    ///   - offset: in the decompressed block, bytes.
    public init(block: UInt64, offset: Int) { rawValue = block << 16 | UInt64(offset) }
    /// The block of metadata, bytes from the start of its table.
    public var block: UInt64 { rawValue >> 16 }
    /// Bytes into the decompressed block.
    public var offset: Int { Int(rawValue & 0xffff) }
}

/// The stored length of a data or fragment block, with the bit that says "not compressed".
public struct BlockWord: Equatable, Sendable {
    /// As stored: 24 bits of size, and bit 24 for a block that is not compressed.
    public let rawValue: UInt32
    /// - Parameter rawValue: as stored.
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// - Parameter storedBytes: of the block in the file, at most 1 MiB.
    public init(storedBytes: Int, compressed: Bool) {
        rawValue = UInt32(storedBytes) | (compressed ? 0 : 0x0100_0000)
    }
    /// Zero bytes are stored: the block reads as zeros.
    public static let hole = BlockWord(rawValue: 0)
    /// Bytes of the block in the file.
    public var storedBytes: Int { Int(rawValue & 0x00ff_ffff) }
    /// Whether those bytes are compressed.
    public var isCompressed: Bool { rawValue & 0x0100_0000 == 0 }
    /// Whether the block is all zeros, of which nothing is stored.
    public var isHole: Bool { rawValue == 0 }
}
