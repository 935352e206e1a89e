import CExt2
import Glibc

/// Room on the disk under the file.
extension ExtVolume {
    /// Refuses what needs new blocks where the disk under the file is full: a failure later could not be told to anybody.
    func needRoom(_ bytes: UInt64) throws(ExtError) {
        if hasRoom(bytes) { return }
        discard()
        if !hasRoom(bytes) { throw ExtError(ENOSPC) }
    }

    private func hasRoom(_ bytes: UInt64) -> Bool {
        var host = statvfs()
        guard fstatvfs(storage.file, &host) == 0 else { return true }
        return UInt64(host.f_bavail) * UInt64(host.f_frsize) >= bytes + Self.margin
    }

    /// Whether a commit gives room back.
    public var commitFreesRoom: Bool { store.freedCount > 0 }

    /// Gives free blocks back to the host's file system: the file takes the room that is used.
    func discard() {
        // One that was used again and is being freed anew has what a crash would bring back.
        var blocks = discardable.filter { ext2fs_test_block_bitmap2(system.pointee.block_map, $0) == 0 && !store.isBeingFreed($0) }
            .sorted()[...]
        discardable = []
        while let first = blocks.popFirst() {
            var count: UInt64 = 1
            store.forgetFree(first)
            while let next = blocks.first, next == first + count {
                blocks.removeFirst()
                store.forgetFree(next)
                count += 1
            }
            let offset = first * UInt64(blockSize)
            if storage.punch(at: offset, count: count * UInt64(blockSize)) == 0 {
                for unit in offset / Self.backingUnit...(offset + count * UInt64(blockSize) - 1) / Self.backingUnit { backed.remove(unit) }
            }
        }
    }

    /// Takes room on the host's file system for blocks.
    func back(_ block: UInt64, count: UInt64) throws(ExtError) {
        guard !backingIsUnknown else { return }
        let first = block * UInt64(blockSize) / Self.backingUnit
        let last = ((block + count) * UInt64(blockSize) - 1) / Self.backingUnit
        for unit in first...last where !backed.contains(unit) {
            let error = storage.reserve(at: unit * Self.backingUnit, count: Self.backingUnit)
            if error != 0 {
                switch error {
                case ENOSPC, EDQUOT, EFBIG: throw ExtError(ENOSPC)
                default:
                    backingIsUnknown = true
                    return
                }
            }
            backed.insert(unit)
        }
    }

    /// Blocks in all and free, inodes in all and free; free ones as far as the disk under the file has them.
    public var room: (blocks: UInt64, free: UInt64, inodes: UInt32, freeInodes: UInt32, blockSize: UInt32) {
        // What the file system itself takes is not for files, as the kernel counts it.
        let blocks = ext2fs_blocks_count(superblock) - min(overhead, ext2fs_blocks_count(superblock))
        var free = ext2fs_free_blocks_count(superblock)
        var total = blocks
        var host = statvfs()
        if fstatvfs(storage.file, &host) == 0 {
            let bytes = UInt64(host.f_bavail) * UInt64(host.f_frsize)
            let available = (bytes > Self.margin ? bytes - Self.margin : 0) / UInt64(blockSize)
            if available < free {
                total = blocks - min(free, blocks) + available
                free = available
            }
        }
        return (total, free, superblock.pointee.s_inodes_count, superblock.pointee.s_free_inodes_count, UInt32(blockSize))
    }

    /// What the superblock says: blocks of files, inodes in all and free ones.
    public var numbers: (used: UInt64, inodes: UInt32, freeInodes: UInt32, blockSize: UInt32) {
        let taken = ext2fs_blocks_count(superblock) - min(ext2fs_free_blocks_count(superblock), ext2fs_blocks_count(superblock))
        return (
            taken - min(taken, overhead), superblock.pointee.s_inodes_count,
            superblock.pointee.s_free_inodes_count, UInt32(blockSize)
        )
    }

    /// Blocks of superblocks, group descriptors, maps, inodes and the journal.
    func countOverhead() -> UInt64 {
        var count = UInt64(superblock.pointee.s_first_data_block)
        let descriptors = UInt64(system.pointee.desc_blocks) + UInt64(superblock.pointee.s_reserved_gdt_blocks)
        for group in 0..<system.pointee.group_desc_count {
            count += 2 + UInt64(system.pointee.inode_blocks_per_group)
            if ext2fs_bg_has_super(system, group) != 0 { count += 1 + descriptors }
        }
        if superblock.pointee.s_journal_inum != 0, let inode = try? readInode(superblock.pointee.s_journal_inum) {
            count += inode.size / UInt64(blockSize)
        }
        return count
    }
}
