import BlockIO

/// Where the bytes of a regular file are.
public final class FileLayout: Sendable {
    /// Position of the first data block, bytes from the start of the file system.
    public let start: UInt64
    /// Bytes of the file.
    public let size: UInt64
    /// One word a block, in order.
    public let blocks: [BlockWord]
    /// The fragment block that holds the tail, nil where the tail is an ordinary short block.
    public let fragment: UInt32?
    /// Where the tail starts in the plain fragment, bytes.
    public let fragmentOffset: UInt32
    /// Position of every 64th block, so that a read in the middle of a large file need not add up all words.
    let landmarks: [UInt64]
    static let landmarkSpacing = 64

    /// - Parameters:
    ///   - start: of the first block, bytes from the superblock.
    ///   - size: bytes of the file.
    ///   - blocks: a word for each full block, in order.
    ///   - fragment: number of the fragment that holds the end of the file; nil for none.
    ///   - fragmentOffset: of that end in the decompressed fragment, bytes.
    public init(start: UInt64, size: UInt64, blocks: [BlockWord], fragment: UInt32?, fragmentOffset: UInt32) {
        self.start = start
        self.size = size
        self.blocks = blocks
        self.fragment = fragment
        self.fragmentOffset = fragmentOffset
        var landmarks: [UInt64] = []
        var position = start
        for (index, word) in blocks.enumerated() {
            if index % Self.landmarkSpacing == 0 { landmarks.append(position) }
            position &+= UInt64(word.storedBytes)
        }
        self.landmarks = landmarks
    }

    /// Position of a block, bytes from the start of the file system.
    public func position(ofBlock index: Int) -> UInt64 {
        let mark = index / Self.landmarkSpacing
        var position = landmarks[mark]
        for earlier in mark * Self.landmarkSpacing..<index { position &+= UInt64(blocks[earlier].storedBytes) }
        return position
    }

    /// Bytes that all blocks take in the image.
    public var storedBytes: UInt64 { blocks.reduce(0) { $0 + UInt64($1.storedBytes) } }
}

/// Where a directory's listing is.
public struct DirectoryLocation: Equatable, Sendable {
    /// Metadata block, bytes from the start of the directory table.
    public var block: UInt32
    /// Offset in the plain bytes of that block.
    public var offset: UInt16
    /// Bytes of the listing (the format stores three more).
    public var byteCount: UInt32
    /// Inode number of the directory above.
    public var parent: UInt32
    /// Accelerator for large directories, sorted by name.
    public var index: [DirectoryIndexEntry] = []
}

/// One step of a large directory's index.
public struct DirectoryIndexEntry: Equatable, Sendable {
    /// Bytes from the start of the listing to a header.
    public var position: UInt32
    /// Metadata block with that header, bytes from the start of the directory table.
    public var block: UInt32
    /// First name below that header.
    public var name: [UInt8]
}

/// What a directory entry points at.
public struct Inode: Sendable {
    /// What an inode has by its type.
    public enum Content: Sendable {
        case directory(DirectoryLocation)
        case file(FileLayout)
        case symlink([UInt8])
        /// Device number as `st_rdev` has it, see makedev(3).
        case blockDevice(UInt32)
        case characterDevice(UInt32)
        case fifo
        case socket
    }

    /// No extended attributes.
    public static let noXattrs = UInt32.max

    /// Permission bits, 0o7777.
    public var mode: UInt16
    /// Owner, from the id table.
    public var uid: UInt32
    /// Group, from the id table.
    public var gid: UInt32
    /// Unix seconds.
    public var modificationTime: UInt32
    /// From 1 to the inode count.
    public var number: UInt32
    /// Names of the inode.
    public var linkCount: UInt32
    /// Index into the xattr table or ``noXattrs``.
    public var xattrs: UInt32
    /// What it has by its type.
    public var content: Content

    /// An inode as the table has it, basic or extended ("SquashFS 4.0, inode table").
    public init(
        mode: UInt16, uid: UInt32, gid: UInt32, modificationTime: UInt32, number: UInt32, linkCount: UInt32,
        xattrs: UInt32 = Inode.noXattrs, content: Content
    ) {
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.modificationTime = modificationTime
        self.number = number
        self.linkCount = linkCount
        self.xattrs = xattrs
        self.content = content
    }

    /// The type number of the basic form, as directory entries have it: 1 directory … 7 socket.
    public var basicType: UInt16 {
        switch content {
        case .directory: 1
        case .file: 2
        case .symlink: 3
        case .blockDevice: 4
        case .characterDevice: 5
        case .fifo: 6
        case .socket: 7
        }
    }
}

extension Inode {
    /// The inode as it stands in the inode table: the basic form where it can hold everything, else the extended.
    /// - Parameters:
    ///   - uidIndex: the owner's place in the id table.
    ///   - sparseBytes: bytes of a file that no block stores.
    func bytes(uidIndex: UInt16, gidIndex: UInt16, sparseBytes: UInt64) -> [UInt8] {
        var body: [UInt8] = []
        var extended = xattrs != Self.noXattrs
        switch content {
        case .directory(let location):
            extended = extended || location.byteCount + 3 > 0xffff || !location.index.isEmpty
            body = extended ? extendedDirectory(location) : basicDirectory(location)
        case .file(let layout):
            extended =
                extended || linkCount > 1 || layout.size > 0xffff_ffff || layout.start > 0xffff_ffff || sparseBytes > 0
            body = fileBody(layout, extended: extended, sparseBytes: sparseBytes)
        case .symlink(let target):
            body.append(littleEndian: linkCount)
            body.append(littleEndian: UInt32(target.count))
            body += target
            if extended { body.append(littleEndian: xattrs) }
        case .blockDevice(let device), .characterDevice(let device):
            body.append(littleEndian: linkCount)
            body.append(littleEndian: device)
            if extended { body.append(littleEndian: xattrs) }
        case .fifo, .socket:
            body.append(littleEndian: linkCount)
            if extended { body.append(littleEndian: xattrs) }
        }
        var out: [UInt8] = []
        out.append(littleEndian: basicType + (extended ? 7 : 0))
        out.append(littleEndian: mode & 0o7777)
        out.append(littleEndian: uidIndex)
        out.append(littleEndian: gidIndex)
        out.append(littleEndian: modificationTime)
        out.append(littleEndian: number)
        return out + body
    }

    private func basicDirectory(_ location: DirectoryLocation) -> [UInt8] {
        var body: [UInt8] = []
        body.append(littleEndian: location.block)
        body.append(littleEndian: linkCount)
        body.append(littleEndian: UInt16(location.byteCount + 3))
        body.append(littleEndian: location.offset)
        body.append(littleEndian: location.parent)
        return body
    }

    private func extendedDirectory(_ location: DirectoryLocation) -> [UInt8] {
        var body: [UInt8] = []
        body.append(littleEndian: linkCount)
        body.append(littleEndian: location.byteCount + 3)
        body.append(littleEndian: location.block)
        body.append(littleEndian: location.parent)
        body.append(littleEndian: UInt16(location.index.count))
        body.append(littleEndian: location.offset)
        body.append(littleEndian: xattrs)
        for entry in location.index {
            body.append(littleEndian: entry.position)
            body.append(littleEndian: entry.block)
            body.append(littleEndian: UInt32(entry.name.count - 1))
            body += entry.name
        }
        return body
    }

    private func fileBody(_ layout: FileLayout, extended: Bool, sparseBytes: UInt64) -> [UInt8] {
        var body: [UInt8] = []
        if extended {
            body.append(littleEndian: layout.start)
            body.append(littleEndian: layout.size)
            body.append(littleEndian: sparseBytes)
            body.append(littleEndian: linkCount)
        } else {
            body.append(littleEndian: UInt32(layout.start))
        }
        body.append(littleEndian: layout.fragment ?? UInt32.max)
        body.append(littleEndian: layout.fragmentOffset)
        if extended {
            body.append(littleEndian: xattrs)
        } else {
            body.append(littleEndian: UInt32(layout.size))
        }
        for word in layout.blocks { body.append(littleEndian: word.rawValue) }
        return body
    }
}
