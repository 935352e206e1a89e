import CExt2
import Glibc

/// Operations on names. What a program may do is decided by the kernel before it asks.
extension ExtVolume {
    private static let longestName = 255
    /// Links that a file can have; a directory with more subdirectories counts as one with 1.
    private static let mostLinks: UInt32 = 65000

    private func checkNew(_ name: [UInt8], in directory: UInt32) throws(ExtError) {
        try needWritable()
        guard name.count <= Self.longestName else { throw ExtError(ENAMETOOLONG) }
        guard try lookUp(name, in: directory) == nil else { throw ExtError(EEXIST) }
        guard try readInode(directory).linkCount > 0 else { throw ExtError(ENOENT) }
    }

    /// Bytes that a new name may need of the disk.
    private var nameRoom: UInt64 { UInt64(blockSize) * 4 }

    /// Makes a file, a device, a pipe or a socket.
    /// - Parameters:
    ///   - mode: type and permissions.
    ///   - device: major and minor number.
    public func makeNode(
        _ name: [UInt8], in directory: UInt32, mode: UInt32, device: (major: UInt32, minor: UInt32), uid: UInt32, gid: UInt32
    ) throws(ExtError) -> UInt32 {
        try checkNew(name, in: directory)
        try needRoom(nameRoom)
        var (number, inode) = try newInode(in: directory, mode: mode, uid: uid, gid: gid)
        switch mode & UInt32(S_IFMT) {
        case UInt32(S_IFCHR), UInt32(S_IFBLK): inode.device = device
        case UInt32(S_IFREG), UInt32(S_IFIFO), UInt32(S_IFSOCK): break
        default: throw ExtError(EINVAL)
        }
        try addEntry(name, number, type: Self.entryType(mode), to: directory)
        try writeNew(number, &inode)
        return number
    }

    public func makeDirectory(_ name: [UInt8], in directory: UInt32, mode: UInt32, uid: UInt32, gid: UInt32) throws(ExtError) -> UInt32 {
        try checkNew(name, in: directory)
        try needRoom(nameRoom)
        let parent = try readInode(directory)
        let mode = mode & 0o7777 | UInt32(S_IFDIR)
        var number: UInt32 = 0
        try ExtError.check(ext2fs_new_inode(system, directory, CInt(bitPattern: mode), nil, &number))
        // The entry first: it may need a block, and fail.
        try addEntry(name, number, type: Self.entryType(mode), to: directory)
        let status = ext2fs_mkdir(system, directory, number, nil)
        if status != 0 {
            try removeEntry(name, from: directory)
            try ExtError.check(status)
        }
        inodeWasTaken(number)
        var inode = try readInode(number)
        prepare(&inode, mode: mode, uid: uid, gid: gid)
        if parent.raw.i_flags & UInt32(EXT4_PROJINHERIT_FL) != 0 { inode.raw.i_projid = parent.raw.i_projid }
        try writeInode(number, &inode)
        directories.forget(number)
        return number
    }

    public func makeLink(_ name: [UInt8], in directory: UInt32, to target: [UInt8], uid: UInt32, gid: UInt32) throws(ExtError) -> UInt32 {
        try checkNew(name, in: directory)
        try needRoom(nameRoom)
        guard target.count < blockSize, !target.contains(0) else { throw ExtError(ENAMETOOLONG) }
        var number: UInt32 = 0
        try ExtError.check(ext2fs_new_inode(system, directory, CInt(bitPattern: UInt32(S_IFLNK) | 0o777), nil, &number))
        try addEntry(name, number, type: 7, to: directory)
        let status = (target + [0]).withUnsafeBytes {
            ext2fs_symlink(system, directory, number, nil, $0.address.assumingMemoryBound(to: CChar.self))
        }
        if status != 0 {
            try removeEntry(name, from: directory)
            try ExtError.check(status)
        }
        inodeWasTaken(number)
        var inode = try readInode(number)
        prepare(&inode, mode: UInt32(S_IFLNK) | 0o777, uid: uid, gid: gid)
        try writeInode(number, &inode)
        return number
    }

    /// What a symbolic link says.
    public func target(_ number: UInt32) throws(ExtError) -> [UInt8] {
        var inode = try readInode(number)
        guard inode.mode & UInt32(S_IFMT) == UInt32(S_IFLNK), inode.size <= 65536 else { throw ExtError(EINVAL) }
        let size = Int(inode.size)
        if inode.withSmall({ ext2fs_is_fast_symlink($0) }) != 0 {
            return withUnsafeBytes(of: inode.raw.i_block) { Array($0.prefix(size)) }
        }
        var bytes = [UInt8](repeating: 0, count: size)
        var failure: ExtError?
        bytes.withUnsafeMutableBytes { buffer in
            do throws(ExtError) { _ = try read(number, at: 0, into: buffer) } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Gives a file another name.
    public func link(_ number: UInt32, as name: [UInt8], in directory: UInt32) throws(ExtError) {
        try checkNew(name, in: directory)
        var inode = try readInode(number)
        guard inode.linkCount < Self.mostLinks else { throw ExtError(EMLINK) }
        guard inode.linkCount > 0 else { throw ExtError(ENOENT) }
        try addEntry(name, number, type: Self.entryType(inode.mode), to: directory)
        inode.linkCount += 1
        inode.changeTime = Self.now
        try writeInode(number, &inode)
    }

    /// Removes a name of a file, or an empty directory. What was its last name leaves an orphan, to be freed when nobody uses
    /// it any more.
    /// - Returns: the inode.
    public func remove(_ name: [UInt8], from directory: UInt32, isDirectory: Bool) throws(ExtError) -> UInt32 {
        try needWritable()
        guard let number = try lookUp(name, in: directory) else { throw ExtError(ENOENT) }
        let inode = try readInode(number)
        guard inode.isDirectory == isDirectory else { throw ExtError(isDirectory ? ENOTDIR : EISDIR) }
        if isDirectory, !(try isEmpty(number)) { throw ExtError(ENOTEMPTY) }
        try removeEntry(name, from: directory)
        if isDirectory { try changeLinks(directory, by: -1) }
        try dropName(number)
        return number
    }

    private func changeLinks(_ number: UInt32, by change: Int) throws(ExtError) {
        var inode = try readInode(number)
        // One link says "many" of a directory.
        if inode.isDirectory, inode.linkCount == 1 { return }
        let count = Int(inode.linkCount) + change
        inode.linkCount = inode.isDirectory && count > Int(Self.mostLinks) ? 1 : UInt32(max(count, 0))
        inode.changeTime = Self.now
        try writeInode(number, &inode)
    }

    private func dropName(_ number: UInt32) throws(ExtError) {
        var inode = try readInode(number)
        inode.linkCount = inode.isDirectory || inode.linkCount == 0 ? 0 : inode.linkCount - 1
        inode.changeTime = Self.now
        if inode.linkCount == 0 { try addOrphan(number, &inode) }
        try writeInode(number, &inode)
    }

    /// What renameat2(2) can be asked for.
    public struct RenameFlags: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let noReplace = RenameFlags(rawValue: 1)
        public static let exchange = RenameFlags(rawValue: 2)
        /// What is left at the old name hides what a lower layer has there.
        public static let whiteout = RenameFlags(rawValue: 4)
    }

    /// Renames.
    /// - Parameter owner: of a whiteout.
    /// - Returns: the file that has lost its name, if any.
    public func rename(
        _ name: [UInt8], in directory: UInt32, to newName: [UInt8], in newDirectory: UInt32, _ flags: RenameFlags,
        owner: (uid: UInt32, gid: UInt32)
    ) throws(ExtError) -> UInt32? {
        try needWritable()
        guard newName.count <= Self.longestName else { throw ExtError(ENAMETOOLONG) }
        guard let number = try lookUp(name, in: directory) else { throw ExtError(ENOENT) }
        let inode = try readInode(number)
        let old = try lookUp(newName, in: newDirectory)
        if flags.contains(.exchange) {
            guard let old else { throw ExtError(ENOENT) }
            let other = try readInode(old)
            try replaceEntry(name, old, type: Self.entryType(other.mode), in: directory)
            try replaceEntry(newName, number, type: Self.entryType(inode.mode), in: newDirectory)
            if directory != newDirectory {
                try moveParent(number, inode, from: directory, to: newDirectory)
                try moveParent(old, other, from: newDirectory, to: directory)
            }
            return nil
        }
        if old == number { return nil }
        var lost: UInt32?
        if let old {
            guard !flags.contains(.noReplace) else { throw ExtError(EEXIST) }
            let other = try readInode(old)
            guard other.isDirectory == inode.isDirectory else { throw ExtError(other.isDirectory ? EISDIR : ENOTDIR) }
            if other.isDirectory, !(try isEmpty(old)) { throw ExtError(ENOTEMPTY) }
            try replaceEntry(newName, number, type: Self.entryType(inode.mode), in: newDirectory)
            if other.isDirectory { try changeLinks(newDirectory, by: -1) }
            try dropName(old)
            lost = old
        } else {
            try needRoom(nameRoom)
            guard try readInode(newDirectory).linkCount > 0 else { throw ExtError(ENOENT) }
            try addEntry(newName, number, type: Self.entryType(inode.mode), to: newDirectory)
        }
        if flags.contains(.whiteout) {
            var (hidden, whiteout) = try newInode(in: directory, mode: UInt32(S_IFCHR), uid: owner.uid, gid: owner.gid)
            try replaceEntry(name, hidden, type: Self.entryType(UInt32(S_IFCHR)), in: directory)
            try writeNew(hidden, &whiteout)
        } else {
            try removeEntry(name, from: directory)
        }
        if directory != newDirectory { try moveParent(number, inode, from: directory, to: newDirectory) }
        var moved = try readInode(number)
        moved.changeTime = Self.now
        try writeInode(number, &moved)
        return lost
    }

    /// A directory has got another parent.
    private func moveParent(_ number: UInt32, _ inode: VolumeInode, from old: UInt32, to new: UInt32) throws(ExtError) {
        guard inode.isDirectory else { return }
        try replaceEntry([0x2e, 0x2e], new, type: 2, in: number)
        try changeLinks(old, by: -1)
        try changeLinks(new, by: 1)
    }
}
