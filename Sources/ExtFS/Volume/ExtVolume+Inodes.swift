import CExt2
import Glibc

/// What a file system keeps of a file besides its name and data ("ext4 Data Structures", struct ext4_inode).
public struct VolumeInode {
    /// As on disk.
    var raw: ext2_inode_large

    init(_ raw: ext2_inode_large = ext2_inode_large()) { self.raw = raw }

    /// File type and permission bits, see inode(7).
    public var mode: UInt32 {
        get { UInt32(raw.i_mode) }
        set { raw.i_mode = UInt16(truncatingIfNeeded: newValue) }
    }

    public var uid: UInt32 {
        get { UInt32(raw.i_uid) | UInt32(raw.osd2.linux2.l_i_uid_high) << 16 }
        set {
            raw.i_uid = UInt16(truncatingIfNeeded: newValue)
            raw.osd2.linux2.l_i_uid_high = UInt16(truncatingIfNeeded: newValue >> 16)
        }
    }

    public var gid: UInt32 {
        get { UInt32(raw.i_gid) | UInt32(raw.osd2.linux2.l_i_gid_high) << 16 }
        set {
            raw.i_gid = UInt16(truncatingIfNeeded: newValue)
            raw.osd2.linux2.l_i_gid_high = UInt16(truncatingIfNeeded: newValue >> 16)
        }
    }

    /// Bytes.
    public var size: UInt64 {
        get { UInt64(raw.i_size) | UInt64(raw.i_size_high) << 32 }
        set {
            raw.i_size = UInt32(truncatingIfNeeded: newValue)
            raw.i_size_high = UInt32(truncatingIfNeeded: newValue >> 32)
        }
    }

    public var linkCount: UInt32 {
        get { UInt32(raw.i_links_count) }
        set { raw.i_links_count = UInt16(clamping: newValue) }
    }

    /// Units of 512 bytes.
    public var blockCount: UInt64 { UInt64(raw.i_blocks) | UInt64(raw.osd2.linux2.l_i_blocks_hi) << 32 }
    public var generation: UInt32 { raw.i_generation }
    public var isDirectory: Bool { mode & UInt32(S_IFMT) == UInt32(S_IFDIR) }
    public var isRegular: Bool { mode & UInt32(S_IFMT) == UInt32(S_IFREG) }
    /// The file type, as in ``mode``.
    public var type: UInt32 { mode & UInt32(S_IFMT) }
    public var isDevice: Bool { type == UInt32(S_IFCHR) || type == UInt32(S_IFBLK) }

    /// The set-group-id bit.
    public static let setGroup = UInt32(S_ISGID)
    /// New files in this directory belong to its group.
    public var passesGroup: Bool { mode & Self.setGroup != 0 }

    /// Takes the rights from a program that it gives to whoever runs it.
    public mutating func dropPrivileges() {
        guard isRegular else { return }
        mode &= ~UInt32(S_ISUID)
        // The set-group-id bit without the right to execute means something else.
        if mode & UInt32(S_IXGRP) != 0 { mode &= ~Self.setGroup }
    }

    var usesExtents: Bool { raw.i_flags & UInt32(EXT4_EXTENTS_FL) != 0 }
    var isInline: Bool { raw.i_flags & UInt32(EXT4_INLINE_DATA_FL) != 0 }

    /// A point in time: seconds and nanoseconds.
    public typealias Time = (seconds: Int64, nanoseconds: UInt32)

    /// The lower two bits of the extra field carry seconds beyond 2038.
    private static func time(_ low: UInt32, _ extra: UInt32) -> Time {
        (Int64(Int32(bitPattern: low)) + Int64(extra & 3) << 32, min(extra >> 2, 999_999_999))
    }

    private static func extra(_ time: Time) -> UInt32 {
        UInt32(truncatingIfNeeded: (time.seconds - Int64(Int32(truncatingIfNeeded: time.seconds))) >> 32) & 3 | time.nanoseconds << 2
    }

    public var accessTime: Time {
        get { Self.time(raw.i_atime, raw.i_atime_extra) }
        set { (raw.i_atime, raw.i_atime_extra) = (UInt32(truncatingIfNeeded: newValue.seconds), Self.extra(newValue)) }
    }

    public var modificationTime: Time {
        get { Self.time(raw.i_mtime, raw.i_mtime_extra) }
        set { (raw.i_mtime, raw.i_mtime_extra) = (UInt32(truncatingIfNeeded: newValue.seconds), Self.extra(newValue)) }
    }

    public var changeTime: Time {
        get { Self.time(raw.i_ctime, raw.i_ctime_extra) }
        set { (raw.i_ctime, raw.i_ctime_extra) = (UInt32(truncatingIfNeeded: newValue.seconds), Self.extra(newValue)) }
    }

    /// Major and minor number of a device.
    public var device: (major: UInt32, minor: UInt32) {
        get {
            let old = raw.i_block.0
            if old != 0 { return (old >> 8 & 0xff, old & 0xff) }
            let new = raw.i_block.1
            return (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xfff00)
        }
        set {
            if newValue.major < 256, newValue.minor < 256 {
                raw.i_block.0 = newValue.major << 8 | newValue.minor
            } else {
                raw.i_block.1 = newValue.minor & 0xff | newValue.major << 8 | (newValue.minor & ~0xff) << 12
            }
        }
    }

    /// The same bytes as the structure without the later fields.
    mutating func withSmall<R>(_ body: (UnsafeMutablePointer<ext2_inode>) -> R) -> R {
        withUnsafeMutablePointer(to: &raw) { $0.withMemoryRebound(to: ext2_inode.self, capacity: 1, body) }
    }
}

extension ExtVolume {
    /// The root directory.
    public static let root = ExtImage.root

    static var now: VolumeInode.Time { currentTime }

    public static var currentTime: VolumeInode.Time {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return (Int64(now.tv_sec), UInt32(now.tv_nsec))
    }

    /// Bytes of an inode that are looked at.
    private var inodeBytes: CInt { CInt(min(Int(cext2_inode_size(system)), MemoryLayout<ext2_inode_large>.size)) }

    public func readInode(_ number: UInt32) throws(ExtError) -> VolumeInode {
        var inode = VolumeInode()
        let size = inodeBytes
        try ExtError.check(inode.withSmall { ext2fs_read_inode_full(system, number, $0, size) })
        return inode
    }

    public func writeInode(_ number: UInt32, _ inode: inout VolumeInode) throws(ExtError) {
        let size = inodeBytes
        try ExtError.check(inode.withSmall { ext2fs_write_inode_full(system, number, $0, size) })
    }

    /// Takes a free inode, as yet without a name.
    /// - Parameter mode: type and permissions.
    func newInode(in directory: UInt32, mode: UInt32, uid: UInt32, gid: UInt32) throws(ExtError) -> (number: UInt32, VolumeInode) {
        var number: UInt32 = 0
        try ExtError.check(ext2fs_new_inode(system, directory, CInt(bitPattern: mode), nil, &number))
        var inode = VolumeInode()
        prepare(&inode, mode: mode, uid: uid, gid: gid)
        inode.raw.i_generation = UInt32.random(in: 1 ... .max)
        if mode & UInt32(S_IFMT) == UInt32(S_IFREG), superblock.pointee.s_feature_incompat & UInt32(EXT3_FEATURE_INCOMPAT_EXTENTS) != 0 {
            inode.raw.i_flags |= UInt32(EXT4_EXTENTS_FL)
            // An empty list: magic number, no entry, room for four, depth 0.
            inode.raw.i_block.0 = 0xf30a
            inode.raw.i_block.1 = 4
        }
        inode.linkCount = 1
        return (number, inode)
    }

    /// Fills in what a new inode has of its maker. Its generation stays: checksums of a directory's blocks depend on it.
    func prepare(_ inode: inout VolumeInode, mode: UInt32, uid: UInt32, gid: UInt32) {
        inode.mode = mode
        inode.uid = uid
        inode.gid = gid
        let now = Self.now
        if cext2_inode_size(system) > 128 { inode.raw.i_extra_isize = 32 }
        (inode.accessTime, inode.modificationTime, inode.changeTime) = (now, now, now)
        (inode.raw.i_crtime, inode.raw.i_crtime_extra) = (inode.raw.i_ctime, inode.raw.i_ctime_extra)
    }

    /// Writes an inode that libext2fs has not seen before.
    func writeNew(_ number: UInt32, _ inode: inout VolumeInode) throws(ExtError) {
        // The whole of it, also what an earlier file has left behind.
        let size = Int(cext2_inode_size(system))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(size, MemoryLayout<ext2_inode_large>.size), alignment: 8)
        defer { buffer.deallocate() }
        memset(buffer.address, 0, buffer.count)
        withUnsafeBytes(of: inode.raw) { buffer.copyMemory(from: $0) }
        try ExtError.check(
            ext2fs_write_inode_full(system, number, buffer.address.assumingMemoryBound(to: ext2_inode.self), CInt(size)))
        countInode(number, 1, isDirectory: inode.isDirectory)
    }
}
