import CExt2

/// Files without a name that are still in use. They are in a list on disk, so that a crash leaves nothing behind: the
/// superblock has the first, and each the next in the field for the time of its deletion.
struct OrphanList {
    private var next: [UInt32: UInt32] = [:]
    private var previous: [UInt32: UInt32] = [:]
    private(set) var first: UInt32 = 0

    func contains(_ number: UInt32) -> Bool { number == first || previous[number] != nil }

    /// - Returns: the one behind it.
    mutating func add(_ number: UInt32) -> UInt32 {
        let old = first
        if old != 0 {
            next[number] = old
            previous[old] = number
        }
        first = number
        return old
    }

    /// - Returns: the one before it, 0 for the superblock, and the one behind it.
    mutating func remove(_ number: UInt32) -> (before: UInt32, behind: UInt32) {
        let behind = next.removeValue(forKey: number) ?? 0
        let before = previous.removeValue(forKey: number) ?? 0
        if before == 0 { first = behind } else { next[before] = behind == 0 ? nil : behind }
        if behind != 0 { previous[behind] = before == 0 ? nil : before }
        return (before, behind)
    }
}

extension ExtVolume {
    /// Notes that a file has no name any more.
    func addOrphan(_ number: UInt32, _ inode: inout VolumeInode) throws(ExtError) {
        guard !orphans.contains(number) else { return }
        inode.raw.i_dtime = orphans.add(number)
        superblock.pointee.s_last_orphan = number
        superblockWasChanged()
    }

    private func removeOrphan(_ number: UInt32) throws(ExtError) {
        guard orphans.contains(number) else { return }
        let (before, behind) = orphans.remove(number)
        if before == 0 {
            superblock.pointee.s_last_orphan = behind
            superblockWasChanged()
        } else {
            var inode = try readInode(before)
            inode.raw.i_dtime = behind
            try writeInode(before, &inode)
        }
    }

    /// Whether a file has no name, and goes when its last user does.
    public func isOrphan(_ number: UInt32) -> Bool { orphans.contains(number) }

    /// Frees a part of what a file without a name has.
    /// - Returns: whether all of it is gone; otherwise to be called again, in a later transaction.
    public func free(_ number: UInt32) throws(ExtError) -> Bool {
        var inode = try readInode(number)
        guard inode.linkCount == 0 else {
            try removeOrphan(number)
            return true
        }
        if inode.hasData {
            guard try shrink(number, &inode, to: 0) else { return false }
        }
        if inode.raw.i_file_acl != 0 || inode.raw.osd2.linux2.l_i_file_acl_high != 0 {
            let status = withUnsafeMutablePointer(to: &inode.raw) { ext2fs_free_ext_attr(system, number, $0) }
            try ExtError.check(status)
        }
        try removeOrphan(number)
        inode.raw.i_dtime = UInt32(truncatingIfNeeded: Self.now.seconds)
        inode.size = 0
        try writeInode(number, &inode)
        countInode(number, -1, isDirectory: inode.isDirectory)
        directories.forget(number)
        lastRuns.forget(number)
        return true
    }

    /// Frees all files without a name: nobody uses any.
    func removeOrphans() {
        var left = superblock.pointee.s_inodes_count
        // Those of an earlier mount are on disk only.
        var known: [UInt32] = []
        var number = superblock.pointee.s_last_orphan
        while number != 0, number <= superblock.pointee.s_inodes_count, left > 0, !orphans.contains(number) {
            known.append(number)
            guard let inode = try? readInode(number) else { break }
            number = inode.raw.i_dtime
            left -= 1
        }
        if orphans.first == 0 { for number in known.reversed() { _ = orphans.add(number) } }
        while orphans.first != 0 {
            let number = orphans.first
            do throws(ExtError) {
                while try !free(number) {}
            } catch { return }
        }
    }
}
