/// One header of a tar stream.
public struct TarEntry: Sendable {
    public enum Kind: Equatable, Sendable {
        case directory
        case file
        case symlink(target: [UInt8])
        /// Path of the entry that this is another name of, as it stands in the archive.
        case hardLink(target: [UInt8])
        /// Device number as `st_rdev` has it.
        case blockDevice(UInt64)
        case characterDevice(UInt64)
        case fifo
        case socket
    }

    /// As it stands in the archive.
    public var path: [UInt8]
    public var kind: Kind
    /// Permission bits, 0o7777.
    public var mode: UInt16
    public var uid: Int64
    public var gid: Int64
    /// Unix seconds.
    public var modificationTime: Int64
    /// Bytes of a file's content, holes included.
    public var size: Int64
    /// Extended attributes with their full names.
    public var xattrs: [(name: String, value: [UInt8])]

    public init(
        path: [UInt8], kind: Kind, mode: UInt16, uid: Int64, gid: Int64, modificationTime: Int64, size: Int64,
        xattrs: [(name: String, value: [UInt8])]
    ) {
        self.path = path
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.modificationTime = modificationTime
        self.size = size
        self.xattrs = xattrs
    }
}
