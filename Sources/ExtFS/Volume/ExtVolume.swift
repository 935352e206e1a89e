import CExt2
import Glibc
import Linux

/// A failed operation on a volume, as the errno value that a program shall see.
public struct ExtError: Error, Equatable {
    public let errno: CInt

    public init(_ errno: CInt) { self.errno = errno }

    /// - Parameter status: of libext2fs: an errno value, or a number of its own.
    static func check(_ status: errcode_t) throws(ExtError) {
        if status == 0 { return }
        switch status {
        case EXT2_ET_BLOCK_ALLOC_FAIL, EXT2_ET_INODE_ALLOC_FAIL, EXT2_ET_DIR_NO_SPACE, EXT2_ET_EA_NO_SPACE:
            throw ExtError(ENOSPC)
        case EXT2_ET_NO_MEMORY: throw ExtError(ENOMEM)
        case EXT2_ET_EA_KEY_NOT_FOUND: throw ExtError(ENODATA)
        case EXT2_ET_RO_FILSYS: throw ExtError(EROFS)
        case EXT2_ET_FILE_TOO_BIG: throw ExtError(EFBIG)
        case 1..<256: throw ExtError(CInt(status))
        default: throw ExtError(EIO)
        }
    }
}

/// An ext2, ext3 or ext4 file system in a file, for reading and writing.
///
/// libext2fs knows the structures on disk; blocks go through a ``BlockStore`` and a ``Journal``, which libext2fs has not.
/// Operations are those of a file system, and each is wholly in one transaction.
///
/// `@unchecked Sendable`: all state is behind ``lock``, which callers hold for an operation ("only with the lock held" is
/// true of every method that doesn't say otherwise); ``commit()`` takes it by itself.
public final class ExtVolume: @unchecked Sendable {
    /// Who may see and change the state.
    public let lock = Monitor()
    public let isReadOnly: Bool
    public let name: String
    let system: ext2_filsys
    let store: BlockStore
    var journal: Journal?
    private let storePointer: UnsafeMutablePointer<cext2_store>
    let storage: any VolumeStorage
    private let copies: CopyWatch?

    /// Groups of which the map of blocks or inodes has changed.
    var changedBlockGroups: Set<UInt32> = []
    var changedInodeGroups: Set<UInt32> = []
    var superblockHasChanged = false
    /// An errno value, once changes could not be kept: nothing can be changed any more.
    public internal(set) var failure: CInt = 0
    /// Bytes that the host's file system must have left for maps and directories, whatever is written.
    static let margin: UInt64 = 16 << 20
    /// Parts of the file, in ``backingUnit`` bytes, that surely have room on the host's file system.
    var backed: Set<UInt64> = []
    var backingIsUnknown = false
    /// Blocks that are free, and may have room on the host's file system.
    var discardable: Set<UInt64> = []
    static let discardLimit = 4096
    static let backingUnit: UInt64 = 1 << 20

    lazy var overhead = countOverhead()
    var directories = DirectoryCache()
    var lastRuns = RunCache()
    var orphans = OrphanList()

    /// - Parameters:
    ///   - storage: can be written, unless it is read only.
    ///   - name: for messages.
    public init(_ storage: any VolumeStorage, name: String, isReadOnly: Bool) throws(ExtImage.Failure) {
        self.storage = storage
        self.name = name
        self.isReadOnly = isReadOnly
        copies = isReadOnly ? nil : CopyWatch(storage.file)
        let store = BlockStore(storage)
        self.store = store
        storePointer = .allocate(capacity: 1)
        storePointer.initialize(
            to: cext2_store(
                object: Unmanaged.passUnretained(store).toOpaque(),
                read: { object, offset, count, bytes in
                    guard let object, let bytes else { return EINVAL }
                    return Unmanaged<BlockStore>.fromOpaque(object).takeUnretainedValue()
                        .read(at: offset, UnsafeMutableRawBufferPointer(start: bytes, count: count))
                },
                write: { object, offset, count, bytes in
                    guard let object, let bytes else { return EINVAL }
                    return Unmanaged<BlockStore>.fromOpaque(object).takeUnretainedValue()
                        .write(at: offset, UnsafeRawBufferPointer(start: bytes, count: count))
                }))
        var opened: ext2_filsys?
        let flags = EXT2_FLAG_64BITS | (isReadOnly ? EXT2_FLAG_IGNORE_CSUM_ERRORS : EXT2_FLAG_RW)
        let status = cext2_open(storePointer, name, flags, &opened)
        guard status == 0, let opened else {
            storePointer.deallocate()
            throw ExtImage.Failure(
                description: "\(name) has no ext file system that can be used (\(error_message(status).map { String(cString: $0) } ?? ""))")
        }
        system = opened
        store.use(blockSize: Int(opened.pointee.blocksize))
        guard !isReadOnly else { return }
        try prepareForWriting()
    }

    deinit {
        // Nothing of libext2fs's own ideas of what is to be written: all of it has gone through commits.
        system.pointee.flags &= ~(EXT2_FLAG_DIRTY | EXT2_FLAG_CHANGED | EXT2_FLAG_BB_DIRTY | EXT2_FLAG_IB_DIRTY)
        ext2fs_free(system)
        storePointer.deallocate()
    }

    var blockSize: Int { store.blockSize }
    var superblock: UnsafeMutablePointer<ext2_super_block> { system.pointee.super }

    /// Whether a crash, or a program without a journal, has left the file system to be checked first.
    public static func needsCheck(_ storage: any VolumeStorage) -> Bool {
        var superblock = [UInt8](repeating: 0, count: 1024)
        guard superblock.withUnsafeMutableBytes({ storage.read(at: 1024, $0) }) == 0 else { return true }
        return superblock.withUnsafeBytes {
            let state = $0.loadUnaligned(fromByteOffset: 58, as: UInt16.self)
            let incompatible = $0.loadUnaligned(fromByteOffset: 96, as: UInt32.self)
            // Not cleanly unmounted, or with errors; a journal to be replayed.
            return state & 3 != 1 || incompatible & 4 != 0
        }
    }

    // MARK: The beginning and the end

    /// Features that would have to be kept up with: inline data, encryption, case folding; clusters, quotas, verity.
    private static let unwritable = (incompatible: UInt32(0x8000 | 0x1_0000 | 0x2_0000), readOnlyCompatible: UInt32(0x200 | 0x100 | 0x8000))

    private func prepareForWriting() throws(ExtImage.Failure) {
        guard superblock.pointee.s_feature_incompat & Self.unwritable.incompatible == 0,
            superblock.pointee.s_feature_ro_compat & Self.unwritable.readOnlyCompatible == 0
        else {
            throw ExtImage.Failure(
                description: "\(name) uses features of ext4 that can only be read (see `dumpe2fs -h`); use it read-only (:ro)")
        }
        let status = ext2fs_read_bitmaps(system)
        guard status == 0 else {
            throw ExtImage.Failure(description: "\(name): its maps of free blocks cannot be read; `singularity overlay check` repairs it")
        }
        // Free blocks are told to the store, changed groups to the next commit.
        system.pointee.priv_data = Unmanaged.passUnretained(self).toOpaque()
        ext2fs_set_block_alloc_stats_callback(
            system,
            { system, block, inUse in
                guard let system else { return }
                Unmanaged<ExtVolume>.fromOpaque(system.pointee.priv_data).takeUnretainedValue().blockHasChanged(block, inUse)
            }, nil)
        // Writing without what the journal still has would be the end of it.
        guard !Self.needsCheck(storage) else {
            throw ExtImage.Failure(description: "\(name) was not left cleanly; `singularity overlay check` repairs it")
        }
        let blocks = journalBlocks()
        let place = JournalPlace(blockSize: blockSize, blockCount: ext2fs_blocks_count(superblock), blocks: blocks)
        if storage.journalPlace != place { try check(storage.keep(place)) }
        // Room in the journal is what a full disk must not take away; where it has less already, less has to do.
        let backed = backedPrefix(blocks)
        journal = Journal(storage, blockSize: blockSize, blocks: blocks, usable: backed)
        if journal != nil {
            superblock.pointee.s_feature_incompat |= UInt32(EXT3_FEATURE_INCOMPAT_RECOVER)
        } else if backed < blocks.count {
            throw ExtImage.Failure(
                description: "\(name) cannot be written: the disk it is on has no room left for its journal; free some space")
        } else {
            superblock.pointee.s_state &= ~UInt16(EXT2_VALID_FS)
        }
        superblock.pointee.s_mtime = UInt32(truncatingIfNeeded: time(nil))
        superblock.pointee.s_mnt_count += 1
        try check(writeSuperblockInPlace())
        removeOrphans()
    }

    /// - Parameter error: an errno value of a write.
    private func check(_ error: CInt) throws(ExtImage.Failure) {
        if error != 0 { throw ExtImage.Failure(description: "\(name) cannot be written: \(String(cString: strerror(error)))") }
    }

    /// Blocks that keep their room when the journal is empty, so that a file system can be opened on a full disk.
    private static let keptJournal = 512

    /// Takes room for the journal.
    /// - Returns: how many of its first blocks have some.
    private func backedPrefix(_ blocks: [UInt64]) -> Int {
        let step = 256
        var done = 0
        while done < blocks.count {
            // Neighbours at once.
            var count = 1
            while count < step, done + count < blocks.count, blocks[done + count] == blocks[done] + UInt64(count) { count += 1 }
            let error = storage.reserve(at: blocks[done] * UInt64(blockSize), count: UInt64(count * blockSize))
            if error == ENOSPC || error == EDQUOT { return done }
            done += count
        }
        return done
    }

    /// Gives back the room of an empty journal.
    private func punchJournal(_ blocks: [UInt64]) {
        var index = Self.keptJournal
        while index < blocks.count {
            var count = 1
            while index + count < blocks.count, blocks[index + count] == blocks[index] + UInt64(count) { count += 1 }
            _ = storage.punch(at: blocks[index] * UInt64(blockSize), count: UInt64(count * blockSize))
            index += count
        }
    }

    /// The journal's blocks in order; none where there is no journal.
    func journalBlocks() -> [UInt64] {
        let number = superblock.pointee.s_journal_inum
        guard superblock.pointee.s_feature_compat & UInt32(EXT3_FEATURE_COMPAT_HAS_JOURNAL) != 0, number != 0,
            var inode = try? readInode(number)
        else { return [] }
        let count = inode.size / UInt64(blockSize)
        guard count > 0, count <= 1 << 20 else { return [] }
        var blocks: [UInt64] = []
        while UInt64(blocks.count) < count {
            guard let run = try? mapped(number, &inode, UInt64(blocks.count), limit: count - UInt64(blocks.count)), let place = run.place
            else { return [] }
            for offset in 0..<run.count { blocks.append(place + offset) }
        }
        return blocks
    }

    /// Writes everything to its place and marks the file system as clean. Without the lock, and with nobody committing.
    public func close() {
        guard !isReadOnly else { return }
        lock.locked { removeOrphans() }
        _ = commit()
        // A copy that is being made needs the journal, and all else as it is; the next use replays it.
        guard copies?.isNeededAtEnd != true else { return }
        lock.locked { discard() }
        guard failure == 0, placeAll() == 0, storage.synchronise() == 0, copies?.isNeededAtEnd != true else { return }
        if let journal, journal.forget(all: true) != 0 { return }
        superblock.pointee.s_feature_incompat &= ~UInt32(EXT3_FEATURE_INCOMPAT_RECOVER)
        superblock.pointee.s_state |= UInt16(EXT2_VALID_FS)
        if storage.synchronise() == 0, writeSuperblockInPlace() == 0, journal != nil { punchJournal(journalBlocks()) }
    }

    /// Whether somebody copies the file. Until the copy is made, all changes go to the journal and none to its place, nothing that became
    /// free is given back, and the journal forgets nothing: what the copy has of the journal, replayed, is one moment of the
    /// file system, wherever in the file the copy was at that moment.
    public var isBeingCopied: Bool { copies?.isBeingCopied ?? false }

    /// Returns when nobody copies the file. Without the lock.
    func waitForCopies() { copies?.wait() }

    func writeSuperblockInPlace() -> CInt {
        superblock.pointee.s_wtime = UInt32(truncatingIfNeeded: time(nil))
        ext2fs_superblock_csum_set(system, superblock)
        let error = storage.writeSafely(UnsafeRawBufferPointer(start: superblock, count: 1024), at: 1024)
        return error != 0 ? error : storage.synchronise()
    }

    // MARK: Changes

    private func blockHasChanged(_ block: UInt64, _ inUse: CInt) {
        changedBlockGroups.insert(ext2fs_group_of_blk2(system, block))
        if inUse < 0 { store.markFree(block) }
    }

    /// Notes the groups of which `body` takes blocks by ranges: libext2fs tells of a range when it has forgotten how long it was
    /// (ext2fs_block_alloc_stats_range in 1.47 calls back with what is left to be counted, which is nothing).
    func notingGroups<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        let groups = 0..<system.pointee.group_desc_count
        let before = groups.map { ext2fs_bg_free_blocks_count(system, $0) }
        defer {
            for group in groups where ext2fs_bg_free_blocks_count(system, group) != before[Int(group)] { changedBlockGroups.insert(group) }
        }
        return try body()
    }

    /// Counts an inode as used or free.
    func countInode(_ number: UInt32, _ change: CInt, isDirectory: Bool) {
        ext2fs_inode_alloc_stats2(system, number, change, isDirectory ? 1 : 0)
        changedInodeGroups.insert((number - 1) / superblock.pointee.s_inodes_per_group)
    }

    /// An inode that libext2fs has taken by itself.
    func inodeWasTaken(_ number: UInt32) { changedInodeGroups.insert((number - 1) / superblock.pointee.s_inodes_per_group) }

    func superblockWasChanged() { superblockHasChanged = true }

    /// Forbids all further changes, also those that are not committed: the file is somebody else's now.
    public func stop() { lock.locked { if failure == 0 { failure = EROFS } } }

    /// Throws where nothing may be changed.
    public func needWritable() throws(ExtError) {
        if isReadOnly || failure != 0 { throw ExtError(EROFS) }
    }

    /// Whether a block's data may be written to its place at once.
    func mayWriteDirectly(_ block: UInt64) -> Bool {
        store.mayWriteDirectly(block, isJournaled: journal?.mayReplay(block) ?? false)
    }

    /// Blocks that one transaction should have at most.
    var transactionLimit: Int { min(journal?.transactionLimit ?? 4096, 32768) }

    /// Blocks of data that one operation should write at most.
    var largestOperation: Int { max(16, transactionLimit / 4) }

    /// Whether the running transaction is so large that it should be committed before anything else is changed.
    public var isFull: Bool { store.running.count >= transactionLimit / 2 || store.freedCount > Self.freedLimit }

    /// Blocks that one transaction may free.
    private static let freedLimit = 1 << 20

    /// Adds the maps of free blocks and inodes to the transaction.
    func writeMaps() throws(ExtError) {
        let super_ = superblock
        let blocksPerGroup = UInt64(super_.pointee.s_blocks_per_group)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 4096)
        defer { buffer.deallocate() }
        let bytes = buffer.address.assumingMemoryBound(to: CChar.self)
        for group in changedBlockGroups {
            memset(bytes, 0xff, blockSize)
            let first = UInt64(super_.pointee.s_first_data_block) + UInt64(group) * blocksPerGroup
            let count = min(blocksPerGroup, ext2fs_blocks_count(super_) - first)
            // Ranges are wanted in bytes; the map of the last group ends with ones.
            try ExtError.check(ext2fs_get_block_bitmap_range2(system.pointee.block_map, first, Int(count), bytes))
            Self.fillTail(buffer, from: Int(count))
            ext2fs_block_bitmap_csum_set(system, group, bytes, CInt(blocksPerGroup / 8))
            try put(ext2fs_block_bitmap_loc(system, group), UnsafeRawBufferPointer(buffer))
        }
        for group in changedInodeGroups {
            memset(bytes, 0xff, blockSize)
            let perGroup = super_.pointee.s_inodes_per_group
            try ExtError.check(
                ext2fs_get_inode_bitmap_range2(system.pointee.inode_map, UInt64(group) * UInt64(perGroup) + 1, Int(perGroup), bytes))
            ext2fs_inode_bitmap_csum_set(system, group, bytes, CInt(perGroup / 8))
            try put(ext2fs_inode_bitmap_loc(system, group), UnsafeRawBufferPointer(buffer))
        }
        var descriptorBlocks: Set<UInt32> = []
        let perBlock = UInt32(blockSize) / cext2_descriptor_size(system)
        for group in changedBlockGroups.union(changedInodeGroups) {
            ext2fs_group_desc_csum_set(system, group)
            descriptorBlocks.insert(group / perBlock)
        }
        for index in descriptorBlocks {
            let place = ext2fs_descriptor_block_loc2(system, UInt64(super_.pointee.s_first_data_block), index)
            let content = UnsafeRawPointer(system.pointee.group_desc) + Int(index) * blockSize
            try put(place, UnsafeRawBufferPointer(start: content, count: blockSize))
        }
        if !descriptorBlocks.isEmpty || superblockHasChanged {
            super_.pointee.s_wtime = UInt32(truncatingIfNeeded: time(nil))
            ext2fs_superblock_csum_set(system, super_)
            let error = store.write(at: 1024, UnsafeRawBufferPointer(start: super_, count: 1024))
            if error != 0 { throw ExtError(error) }
        }
        changedBlockGroups = []
        changedInodeGroups = []
        superblockHasChanged = false
    }

    private static func fillTail(_ buffer: UnsafeMutableRawBufferPointer, from bit: Int) {
        var bit = bit
        while bit % 8 != 0 {
            buffer[bit / 8] |= 1 << UInt8(bit % 8)
            bit += 1
        }
        if bit / 8 < buffer.count { memset(buffer.address + bit / 8, 0xff, buffer.count - bit / 8) }
    }

    func put(_ block: UInt64, _ bytes: UnsafeRawBufferPointer) throws(ExtError) {
        let error = store.write(at: block * UInt64(blockSize), bytes)
        if error != 0 { throw ExtError(error) }
    }
}
