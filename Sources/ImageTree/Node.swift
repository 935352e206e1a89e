import BlockIO
import Linux
import SquashFS

/// Where the bytes of a file in a tree are. A tree never holds them itself.
public enum FileContent: Sendable {
    case empty
    /// Small text that a build made, such as a run script.
    case bytes([UInt8])
    /// Handed to the writer of the image already.
    case stored(StoredFile)
    /// In another image, whose compressed blocks may be taken as they are.
    case image(SquashFSImage, FileLayout)
    /// A regular file of the host, relative to the directory that the tree was read from.
    case host(HostFile)
    /// In something else that can be read in order.
    case foreign(ForeignFile)
}

/// A file whose bytes come from somewhere that this module does not know.
public struct ForeignFile: Sendable {
    /// Bytes.
    public var size: UInt64
    /// Begins to read it; also in several threads at once.
    public var open: @Sendable () throws -> any ByteStream

    public init(size: UInt64, open: @escaping @Sendable () throws -> any ByteStream) {
        self.size = size
        self.open = open
    }
}

/// A file of a directory tree on the host.
public struct HostFile: Sendable {
    /// Absolute path.
    public var path: RawPath
    /// Bytes when it was looked at.
    public var size: UInt64

    public init(path: RawPath, size: UInt64) {
        self.path = path
        self.size = size
    }
}

/// What all file system objects have.
public struct Attributes: Sendable {
    /// Permission bits, 0o7777.
    public var mode: UInt16
    public var uid: UInt32
    public var gid: UInt32
    /// Unix seconds; the image format has unsigned 32 bits.
    public var modificationTime: Int64
    public var xattrs: [Xattr]

    public init(
        mode: UInt16, uid: UInt32 = 0, gid: UInt32 = 0, modificationTime: Int64 = 0, xattrs: [Xattr] = []
    ) {
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.modificationTime = modificationTime
        self.xattrs = xattrs
    }
}

/// A file system object. Two names of a hard-linked file share one node.
public final class Node {
    public enum Content {
        case directory(Directory)
        case file(FileContent)
        case symlink([UInt8])
        /// Device number as `st_rdev` has it.
        case blockDevice(UInt32)
        case characterDevice(UInt32)
        case fifo
        case socket
    }

    public var attributes: Attributes
    public var content: Content

    public init(_ content: Content, _ attributes: Attributes) {
        self.content = content
        self.attributes = attributes
    }

    /// The names in it, where it is a directory.
    public var directory: Directory? {
        if case .directory(let directory) = content { return directory }
        return nil
    }

    public var isDirectory: Bool { directory != nil }

    public static func directory(mode: UInt16 = 0o755, modificationTime: Int64 = 0) -> Node {
        Node(.directory(Directory()), Attributes(mode: mode, modificationTime: modificationTime))
    }
}

/// The names in a directory.
public final class Directory {
    public var children: [[UInt8]: Node] = [:]

    public init() {}

    public subscript(_ name: String) -> Node? {
        get { children[Array(name.utf8)] }
        set { children[Array(name.utf8)] = newValue }
    }

    /// Names in the order of their bytes, which is the order of an image.
    public var sorted: [(name: [UInt8], node: Node)] {
        children.map { ($0.key, $0.value) }.sorted { Self.precedes($0.name, $1.name) }
    }

    private static func precedes(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.withUnsafeBytes { left in
            right.withUnsafeBytes { right in
                for index in 0..<min(left.count, right.count) where left[index] != right[index] {
                    return left[index] < right[index]
                }
                return left.count < right.count
            }
        }
    }
}
