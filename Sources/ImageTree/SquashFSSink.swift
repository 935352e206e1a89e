import BlockIO
import Linux
import SquashFS

/// Writes a tree as a SquashFS file system.
public struct SquashFSSink {
    private let writer: ImageWriter
    private let latestTime: Int64?
    private var numbers: [ObjectIdentifier: UInt32] = [:]
    private var linkCounts: [ObjectIdentifier: UInt32] = [:]
    private var references: [ObjectIdentifier: InodeReference] = [:]
    private var files: [ObjectIdentifier: StoredFile] = [:]
    private var nextNumber: UInt32 = 1

    /// - Parameters:
    ///   - writer: may have taken contents of the tree's files already.
    ///   - latestTime: Unix seconds; newer times are set back to it, so that two builds give the same bytes.
    public init(_ writer: ImageWriter, latestTime: Int64?) {
        self.writer = writer
        self.latestTime = latestTime
    }

    /// Writes the tree.
    /// - Returns: bytes of the file system.
    public mutating func write(_ root: Node) throws -> UInt64 {
        number(root)
        try storeContents(of: root)
        try writer.finishData()
        let rootNumber = nextNumber
        let reference = try write(directory: root, number: numbers[ObjectIdentifier(root)] ?? 1, parent: rootNumber)
        return try writer.finish(root: reference, inodeCount: nextNumber - 1)
    }

    // MARK: Numbers

    /// Children of one directory get numbers in a row: that keeps the listing's runs long.
    private mutating func number(_ root: Node) {
        assign(root)
        var pending = [root]
        while let node = pending.popLast() {
            guard let directory = node.directory else { continue }
            let children = directory.sorted
            for (_, child) in children { assign(child) }
            for (_, child) in children.reversed() where child.isDirectory { pending.append(child) }
        }
    }

    private mutating func assign(_ node: Node) {
        let key = ObjectIdentifier(node)
        linkCounts[key, default: 0] += 1
        if numbers[key] != nil { return }
        numbers[key] = nextNumber
        nextNumber += 1
    }

    // MARK: Contents

    private mutating func storeContents(of root: Node) throws {
        var pending = [root]
        while let node = pending.popLast() {
            if let directory = node.directory {
                pending += directory.sorted.reversed().map(\.node)
            } else if case .file(let content) = node.content, files[ObjectIdentifier(node)] == nil {
                files[ObjectIdentifier(node)] = try stored(content)
            }
        }
    }

    private func stored(_ content: FileContent) throws -> StoredFile {
        switch content {
        case .empty: return .empty
        case .bytes(let bytes): return try writer.data.store(MemoryStream(bytes))
        case .stored(let file): return file
        case .image(let image, let layout):
            if writer.data.canCopy(from: image) { return try writer.data.copy(layout, from: image) }
            return try writer.data.store(ImageFileStream(image, layout))
        case .foreign(let file): return try writer.data.store(try file.open(), size: file.size)
        case .host(let file): return try writer.data.store(FileStream(try OwnedDescriptor.open(file.path), name: "\(file.path)"))
        }
    }

    // MARK: Inodes

    private mutating func write(directory node: Node, number: UInt32, parent: UInt32) throws -> InodeReference {
        guard let directory = node.directory else { throw SquashFSError.limit("a root that is not a directory") }
        var entries: [DirectoryEntry] = []
        entries.reserveCapacity(directory.children.count)
        var subdirectories: UInt32 = 0
        let children = directory.sorted
        for (_, child) in children where child.isDirectory {
            subdirectories += 1
            let key = ObjectIdentifier(child)
            references[key] = try write(directory: child, number: numbers[key] ?? 0, parent: number)
        }
        for (name, child) in children {
            let key = ObjectIdentifier(child)
            let reference = try references[key] ?? write(child, key)
            references[key] = reference
            guard name.count <= 255 else { throw SquashFSError.limit("a name of \(name.count) bytes") }
            entries.append(
                DirectoryEntry(name: name, inode: reference, inodeNumber: numbers[key] ?? 0, type: type(of: child)))
        }
        return try writer.add(
            directory: entries, metadata(node), number: number, parent: parent, linkCount: subdirectories + 2)
    }

    private func write(_ node: Node, _ key: ObjectIdentifier) throws -> InodeReference {
        let number = numbers[key] ?? 0
        let links = linkCounts[key] ?? 1
        let special: Inode.Content
        switch node.content {
        case .file: return try writer.add(files[key] ?? .empty, metadata(node), number: number, linkCount: links)
        case .symlink(let target): special = .symlink(target)
        case .blockDevice(let device): special = .blockDevice(device)
        case .characterDevice(let device): special = .characterDevice(device)
        case .fifo: special = .fifo
        case .socket, .directory: special = .socket
        }
        return try writer.add(special: special, metadata(node), number: number, linkCount: links)
    }

    private func type(of node: Node) -> UInt16 {
        switch node.content {
        case .directory: 1
        case .file: 2
        case .symlink: 3
        case .blockDevice: 4
        case .characterDevice: 5
        case .fifo: 6
        case .socket: 7
        }
    }

    private func metadata(_ node: Node) -> ImageWriter.Metadata {
        let attributes = node.attributes
        let time = min(max(0, attributes.modificationTime), latestTime ?? .max, Int64(UInt32.max))
        return ImageWriter.Metadata(
            mode: attributes.mode, uid: attributes.uid, gid: attributes.gid, modificationTime: UInt32(time),
            xattrs: attributes.xattrs)
    }
}

/// A file of an image read in order.
public final class ImageFileStream: ByteStream {
    private let image: SquashFSImage
    private let layout: FileLayout
    private var position: UInt64 = 0

    public init(_ image: SquashFSImage, _ layout: FileLayout) {
        self.image = image
        self.layout = layout
    }

    public func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        let count = try image.read(layout, at: position, into: buffer)
        position += UInt64(count)
        return count
    }
}
