/// What stat(2) tells of an inode: all but where its bytes are.
public struct InodeSummary: Sendable {
    /// Type and permission bits as `st_mode` has them.
    public var mode: UInt32
    /// Owner, from the id table.
    public var uid: UInt32
    /// Group, from the id table.
    public var gid: UInt32
    /// Unix seconds.
    public var modificationTime: UInt32
    /// The number that stat(2) shows.
    public var number: UInt32
    /// Names of the inode.
    public var linkCount: UInt32
    /// Bytes of a file's content or a link's target.
    public var size: UInt64
    /// Device number of a device.
    public var device: UInt32
}

extension SquashFSImage {
    /// Reads just what stat(2) tells, without a file's list of blocks.
    public func summary(_ reference: InodeReference) throws(SquashFSError) -> InodeSummary {
        var (reader, type, start) = try inodeReader(reference)
        let mode = UInt32(try reader.read(UInt16.self) & 0o7777)
        let uid = try owner(Int(try reader.read(UInt16.self)), at: start)
        let gid = try owner(Int(try reader.read(UInt16.self)), at: start)
        let time = try reader.read(UInt32.self)
        let number = try reader.read(UInt32.self)
        var out = InodeSummary(
            mode: mode, uid: uid, gid: gid, modificationTime: time, number: number, linkCount: 1, size: 0, device: 0)
        switch type {
        case 1:
            out.mode |= 0o040000
            _ = try reader.read(UInt32.self)
            out.linkCount = try reader.read()
            out.size = UInt64(try reader.read(UInt16.self))
        case 8:
            out.mode |= 0o040000
            out.linkCount = try reader.read()
            out.size = UInt64(try reader.read(UInt32.self))
        case 2:
            out.mode |= 0o100000
            for _ in 0..<3 { _ = try reader.read(UInt32.self) }
            out.size = UInt64(try reader.read(UInt32.self))
        case 9:
            out.mode |= 0o100000
            _ = try reader.read(UInt64.self)
            out.size = try reader.read()
            _ = try reader.read(UInt64.self)
            out.linkCount = try reader.read()
        case 3, 10:
            out.mode |= 0o120000
            out.linkCount = try reader.read()
            out.size = UInt64(try reader.read(UInt32.self))
        case 4, 5, 11, 12:
            out.mode |= type == 4 || type == 11 ? 0o060000 : 0o020000
            out.linkCount = try reader.read()
            out.device = try reader.read()
        case 6, 7, 13, 14:
            out.mode |= type == 6 || type == 13 ? 0o010000 : 0o140000
            out.linkCount = try reader.read()
        default: throw corrupt("inode type \(type)", at: start)
        }
        return out
    }

    /// A reader that stands behind the type of an inode.
    func inodeReader(
        _ reference: InodeReference
    ) throws(SquashFSError) -> (reader: MetadataReader, type: UInt16, start: UInt64) {
        let (start, overflow) = superblock.inodeTableStart.addingReportingOverflow(reference.block)
        guard !overflow, start < superblock.directoryTableStart else { throw corrupt("inode reference", at: start) }
        var reader = MetadataReader(metadata, block: start, offset: reference.offset)
        let type = try reader.read(UInt16.self)
        return (reader, type, start)
    }
}
