import BlockIO
import Compression
import Linux

/// Writes a SquashFS 4.0 file system.
///
/// First the contents of all files go through ``data``, in any order. Then ``finishData()``; then the inodes, those of
/// a directory's children before its own; then ``finish(root:inodeCount:)``.
public final class ImageWriter {
    /// Takes the contents of files.
    public let data: DataWriter
    private let options: WriterOptions
    private let descriptor: CInt
    private let base: UInt64
    private let name: String
    private let compressor: BlockCompressor
    private var output: AppendBuffer
    private var inodes: MetadataWriter
    private var directories: MetadataWriter
    private var xattrs: XattrTableWriter
    private var fragments: [SquashFSImage.FragmentEntry] = []
    private var ids: [UInt32] = []
    private var idIndex: [UInt32: UInt16] = [:]
    private var references: [UInt64] = []

    /// - Parameters:
    ///   - descriptor: a file open for reading and writing; it stays the caller's.
    ///   - base: where the file system shall start in it, bytes.
    ///   - name: for messages.
    ///   - transfer: copies blocks of other images when all else is written, which the caller begins; nil to copy them at once.
    public init(
        _ descriptor: CInt, at base: UInt64 = 0, options: WriterOptions, name: String, transfer: BlockTransfer? = nil
    ) throws(SquashFSError) {
        try options.check()
        self.options = options
        self.descriptor = descriptor
        self.base = base
        self.name = name
        let first = UInt64(Superblock.byteCount + (options.compressorOptions?.count ?? 0))
        do {
            compressor = try BlockCompressor(options.compressor, level: options.level, blockSize: options.blockSize)
        } catch { throw .compression(name: name, error) }
        data = try DataWriter(descriptor, base: base, position: first, options: options, name: name, transfer: transfer)
        output = AppendBuffer(descriptor, base: base, position: 0, name: name)
        inodes = MetadataWriter(compressor: compressor)
        directories = MetadataWriter(compressor: compressor)
        xattrs = XattrTableWriter(compressor: compressor)
    }

    deinit { data.close() }

    /// Waits until the contents of all files are written. Inodes may be added from now on.
    public func finishData() throws(SquashFSError) {
        let result = try data.finish()
        fragments = result.fragments
        output = AppendBuffer(descriptor, base: base, position: result.end, name: name)
    }

    /// What all inodes have.
    public struct Metadata {
        /// The twelve bits of permissions, without the type.
        public var mode: UInt16
        /// Owner, any number of 32 bits.
        public var uid: UInt32
        /// Group, any number of 32 bits.
        public var gid: UInt32
        /// Unix seconds; the format ends in the year 2106.
        public var modificationTime: UInt32
        /// Extended attributes of the prefixes `user.`, `trusted.` and `security.`.
        public var xattrs: [Xattr]
        /// The attributes of an inode.
        public init(mode: UInt16, uid: UInt32, gid: UInt32, modificationTime: UInt32, xattrs: [Xattr] = []) {
            self.mode = mode
            self.uid = uid
            self.gid = gid
            self.modificationTime = modificationTime
            self.xattrs = xattrs
        }
    }

    /// Adds a regular file.
    /// - Parameter number: from 1 to the inode count, each used once.
    public func add(
        _ file: StoredFile, _ metadata: Metadata, number: UInt32, linkCount: UInt32
    ) throws(SquashFSError) -> InodeReference {
        try add(.file(file.layout), metadata, number, linkCount, sparseBytes: file.sparseBytes)
    }

    /// Adds a link, device, fifo or socket.
    public func add(
        special content: Inode.Content, _ metadata: Metadata, number: UInt32, linkCount: UInt32
    ) throws(SquashFSError) -> InodeReference {
        if case .symlink(let target) = content, target.isEmpty || target.count > 4096 {
            throw .limit("a link target of \(target.count) bytes")
        }
        return try add(content, metadata, number, linkCount, sparseBytes: 0)
    }

    /// Adds a directory whose children have all been added.
    /// - Parameter entries: sorted by the bytes of their names.
    public func add(
        directory entries: [DirectoryEntry], _ metadata: Metadata, number: UInt32, parent: UInt32, linkCount: UInt32
    ) throws(SquashFSError) -> InodeReference {
        let location = try DirectoryListing.write(entries, parent: parent, to: &directories)
        return try add(.directory(location), metadata, number, linkCount, sparseBytes: 0)
    }

    private func add(
        _ content: Inode.Content, _ metadata: Metadata, _ number: UInt32, _ linkCount: UInt32, sparseBytes: UInt64
    ) throws(SquashFSError) -> InodeReference {
        let inode = Inode(
            mode: metadata.mode, uid: metadata.uid, gid: metadata.gid, modificationTime: metadata.modificationTime,
            number: number, linkCount: linkCount, xattrs: try xattrs.index(of: metadata.xattrs), content: content)
        let reference = inodes.position
        guard reference.block <= UInt64(UInt32.max) else { throw .limit("an inode table of over 4 GiB") }
        inodes.append(
            inode.bytes(
                uidIndex: try idIndex(of: metadata.uid), gidIndex: try idIndex(of: metadata.gid),
                sparseBytes: sparseBytes))
        let index = Int(number) - 1
        if index >= references.count {
            references += repeatElement(0, count: index + 1 - references.count)
        }
        references[index] = reference.rawValue
        return reference
    }

    private func idIndex(of id: UInt32) throws(SquashFSError) -> UInt16 {
        if let index = idIndex[id] { return index }
        guard ids.count < 65535 else { throw .limit("more than 65535 different owners") }
        let index = UInt16(ids.count)
        ids.append(id)
        idIndex[id] = index
        return index
    }

    /// Writes the tables and the superblock.
    /// - Returns: bytes of the file system with its padding to 4096.
    public func finish(root: InodeReference, inodeCount: UInt32) throws(SquashFSError) -> UInt64 {
        var superblock = Superblock()
        superblock.inodeCount = inodeCount
        superblock.modificationTime = options.modificationTime ?? 0
        superblock.blockSize = UInt32(options.blockSize)
        superblock.fragmentCount = UInt32(fragments.count)
        superblock.compressor = options.compressor
        superblock.flags = Superblock.Flag.duplicatesRemoved | Superblock.Flag.exportable
        superblock.idCount = UInt16(ids.count)
        superblock.rootInode = root
        inodes.finish()
        directories.finish()
        superblock.inodeTableStart = output.position
        try append(inodes.stored)
        superblock.directoryTableStart = output.position
        try append(directories.stored)
        superblock.fragmentTableStart = try appendTable(fragmentBytes)
        superblock.exportTableStart = try appendTable(references.reduce(into: []) { $0.append(littleEndian: $1) })
        superblock.idTableStart = try appendTable(ids.reduce(into: []) { $0.append(littleEndian: $1) })
        if xattrs.isEmpty {
            superblock.flags |= Superblock.Flag.noXattrs
        } else {
            let table = xattrs.finish(at: output.position, compressor: compressor)
            superblock.xattrTableStart = table.header
            try append(table.bytes)
        }
        superblock.bytesUsed = output.position
        let padding = (4096 - output.position % 4096) % 4096
        try append([UInt8](repeating: 0, count: Int(padding)))
        let end = output.position
        try output.flush()
        try writeHead(&superblock)
        return end
    }

    private var fragmentBytes: [UInt8] {
        fragments.reduce(into: []) {
            $0.append(littleEndian: $1.start)
            $0.append(littleEndian: $1.word.rawValue)
            $0.append(littleEndian: UInt32(0))
        }
    }

    private func writeHead(_ superblock: inout Superblock) throws(SquashFSError) {
        var head = AppendBuffer(descriptor, base: base, position: 0, name: name)
        let extra = options.compressorOptions
        if extra != nil { superblock.flags |= Superblock.Flag.compressorOptions }
        let bytes = superblock.bytes + (extra ?? [])
        try bytes.span.bytes.withUnsafeBytes { bytes throws(SquashFSError) in try head.append(bytes) }
        try head.flush()
    }

    private func append(_ bytes: [UInt8]) throws(SquashFSError) {
        try bytes.span.bytes.withUnsafeBytes { bytes throws(SquashFSError) in try output.append(bytes) }
    }

    private func appendTable(_ entries: [UInt8]) throws(SquashFSError) -> UInt64 {
        let table = lookupTable(entries, at: output.position, compressor: compressor)
        try append(table.bytes)
        return table.listStart
    }
}
