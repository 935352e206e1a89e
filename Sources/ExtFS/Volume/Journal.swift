import CExt2
import Glibc

/// Writes the journal of an ext3 or ext4 file system (JBD2 in the kernel's "ext4 Data Structures and Algorithms").
///
/// All that is changed goes through it, data too unless it is new: what a crash leaves is what some moment left, and a
/// copy of the file that is made while it is written to has that property as long as the journal remembers all changes
/// since the copy began. That is why transactions stay in it until their room is needed, long after all has its place.
///
/// A commit block has a checksum of its transaction, so that one wait for the disk is enough: a transaction of which parts
/// are missing was never there ("asynchronous commit").
///
/// Only the thread that commits may use it, but for ``mayReplay(_:)``.
final class Journal {
    private let storage: any VolumeStorage
    private let blockSize: Int
    /// Numbers of the journal's blocks in the file system, by their place in the journal.
    private let blocks: [UInt64]
    /// The superblock, block 0.
    private var superblock: [UInt8]
    /// Blocks of the journal, also those that are not used now.
    private let fullLength: Int
    /// First block that transactions may use.
    private let first: Int
    /// Where the next transaction goes.
    private var head: Int
    private var sequence: UInt32
    /// Transactions that a crash would replay, the oldest first.
    private var transactions: [Transaction] = []
    private var used = 0
    /// The newest transaction of which each block is a part.
    private var latest: [UInt64: UInt32] = [:]

    private struct Transaction {
        var sequence: UInt32
        var place: Int
        /// Blocks of the journal.
        var length: Int
        var numbers: [UInt64]
    }

    private static let magic: UInt32 = 0xc03b_3998
    private enum BlockType {
        static let descriptor: UInt32 = 1
        static let commit: UInt32 = 2
        static let superblock2: UInt32 = 4
    }
    /// Of a block's tag.
    private enum TagFlag {
        static let escaped: UInt16 = 1
        static let sameUUID: UInt16 = 2
        static let last: UInt16 = 8
    }
    private static let tagSize = 8
    private static let headerSize = 12
    private static let uuidSize = 16

    /// - Parameters:
    ///   - blocks: of the journal's inode, in order.
    ///   - usable: how many of them may be used.
    /// - Returns: nil where there is no journal that could be used, or one that has not been replayed.
    init?(_ storage: any VolumeStorage, blockSize: Int, blocks: [UInt64], usable: Int) {
        self.storage = storage
        self.blockSize = blockSize
        guard let place = blocks.first else { return nil }
        superblock = [UInt8](repeating: 0, count: blockSize)
        guard superblock.withUnsafeMutableBytes({ storage.read(at: place * UInt64(blockSize), $0) }) == 0 else { return nil }
        func word(_ superblock: [UInt8], _ offset: Int) -> UInt32 {
            superblock.withUnsafeBytes { UInt32(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        }
        fullLength = blocks.count
        let length = min(usable, blocks.count)
        first = Int(word(superblock, 20))
        guard word(superblock, 0) == Self.magic, word(superblock, 4) == BlockType.superblock2, Int(word(superblock, 12)) == blockSize,
            first >= 1, length - first >= Self.leastLength, word(superblock, 28) == 0,
            blocks.allSatisfy({ $0 <= UInt32.max })
        else { return nil }
        self.blocks = Array(blocks[..<length])
        head = first
        sequence = max(1, word(superblock, 24))
    }

    /// Blocks below which a journal is of no use.
    private static let leastLength = 256

    /// Blocks of transactions.
    private var capacity: Int { blocks.count - first }

    /// Blocks that one transaction should have at most.
    var transactionLimit: Int { capacity / 4 }

    /// Whether a crash could bring an older state of a block back.
    func mayReplay(_ block: UInt64) -> Bool { latest[block] != nil }

    // MARK: Transactions

    /// Blocks of the journal that a transaction needs.
    private func length(_ count: Int) -> Int { count + (count + tagsADescriptor - 1) / tagsADescriptor + 1 }

    private var tagsADescriptor: Int { (blockSize - Self.headerSize - Self.uuidSize) / Self.tagSize }

    /// What has to happen before a transaction of so many blocks can be appended.
    enum Need { case nothing, room, impossible }

    func need(_ count: Int) -> Need {
        let length = length(count)
        return length > capacity - 1 ? .impossible : used + length > capacity - 1 ? .room : .nothing
    }

    /// Remembers what the next transaction is of, before it is written. With the volume's lock held.
    func announce(_ changes: [(number: UInt64, block: Block)]) { for change in changes { latest[change.number] = sequence } }

    /// Writes a transaction, which has been announced; it counts when the file has been synchronised.
    /// - Returns: an errno value.
    func append(_ changes: [(number: UInt64, block: Block)]) -> CInt {
        var writer = Writer(journal: self, place: head)
        var checksum = ~UInt32(0)
        var index = 0
        while index < changes.count {
            let group = changes[index..<min(index + tagsADescriptor, changes.count)]
            index = group.endIndex
            let descriptor = Block(size: blockSize)
            memset(descriptor.bytes, 0, blockSize)
            header(descriptor, BlockType.descriptor)
            var position = Self.headerSize
            var copies: [Block] = []
            for (offset, change) in group.enumerated() {
                var flags: UInt16 = offset > 0 ? TagFlag.sameUUID : 0
                if offset == group.count - 1 { flags |= TagFlag.last }
                var copy = change.block
                // Data that looks like a block of the journal would be taken for one.
                if copy.bytes.loadUnaligned(as: UInt32.self) == Self.magic.bigEndian {
                    flags |= TagFlag.escaped
                    copy = Block(size: blockSize)
                    memcpy(copy.bytes, change.block.bytes, blockSize)
                    copy.bytes.storeBytes(of: 0, as: UInt32.self)
                }
                copies.append(copy)
                descriptor.bytes.storeBytes(of: UInt32(change.number).bigEndian, toByteOffset: position, as: UInt32.self)
                descriptor.bytes.storeBytes(of: flags.bigEndian, toByteOffset: position + 6, as: UInt16.self)
                position += Self.tagSize + (offset == 0 ? Self.uuidSize : 0)
            }
            for block in [descriptor] + copies {
                checksum = ext2fs_crc32_be(checksum, block.bytes.assumingMemoryBound(to: UInt8.self), blockSize)
                writer.add(block)
            }
        }
        let commit = Block(size: blockSize)
        memset(commit.bytes, 0, blockSize)
        header(commit, BlockType.commit)
        // Type 1 is CRC-32, of four bytes.
        commit.bytes.storeBytes(of: 1, toByteOffset: 12, as: UInt8.self)
        commit.bytes.storeBytes(of: 4, toByteOffset: 13, as: UInt8.self)
        commit.bytes.storeBytes(of: checksum.bigEndian, toByteOffset: 16, as: UInt32.self)
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        commit.bytes.storeBytes(of: UInt64(now.tv_sec).bigEndian, toByteOffset: 48, as: UInt64.self)
        writer.add(commit)
        let error = writer.finish()
        guard error == 0 else { return error }
        let length = length(changes.count)
        // The first one after a rest makes the journal one that must be replayed.
        if transactions.isEmpty {
            let error = writeSuperblock(start: head, sequence: sequence)
            guard error == 0 else { return error }
        }
        transactions.append(Transaction(sequence: sequence, place: head, length: length, numbers: changes.map(\.number)))
        used += length
        head = writer.place
        sequence &+= 1
        return 0
    }

    /// Makes room by forgetting old transactions, all of whose changes are on disk in their places. With the volume's lock held.
    /// - Returns: an errno value. The file must be synchronised before the room is used.
    func forget(all: Bool) -> CInt {
        var count = 0
        var freed = 0
        while count < transactions.count, all || freed < capacity / 2 {
            freed += transactions[count].length
            count += 1
        }
        for transaction in transactions[..<count] {
            for number in transaction.numbers where latest[number] == transaction.sequence { latest[number] = nil }
        }
        transactions.removeFirst(count)
        used -= freed
        if let oldest = transactions.first { return writeSuperblock(start: oldest.place, sequence: oldest.sequence) }
        return writeSuperblock(start: 0, sequence: sequence)
    }

    private func header(_ block: Block, _ type: UInt32) {
        block.bytes.storeBytes(of: Self.magic.bigEndian, as: UInt32.self)
        block.bytes.storeBytes(of: type.bigEndian, toByteOffset: 4, as: UInt32.self)
        block.bytes.storeBytes(of: sequence.bigEndian, toByteOffset: 8, as: UInt32.self)
    }

    /// - Parameter start: of the oldest transaction, 0 for none.
    private func writeSuperblock(start place: Int, sequence: UInt32) -> CInt {
        let length = place == 0 ? fullLength : blocks.count
        superblock.withUnsafeMutableBytes {
            $0.storeBytes(of: UInt32(length).bigEndian, toByteOffset: 16, as: UInt32.self)
            $0.storeBytes(of: sequence.bigEndian, toByteOffset: 24, as: UInt32.self)
            $0.storeBytes(of: UInt32(place).bigEndian, toByteOffset: 28, as: UInt32.self)
            // Checksums of transactions (compatible 1); asynchronous commits (incompatible 4). No long block numbers, no
            // other checksums, no fast commits.
            $0.storeBytes(of: UInt32(1).bigEndian, toByteOffset: 36, as: UInt32.self)
            $0.storeBytes(of: UInt32(4).bigEndian, toByteOffset: 40, as: UInt32.self)
        }
        return superblock.withUnsafeBytes { storage.writeSafely($0, at: blocks[0] * UInt64(blockSize)) }
    }

    /// Collects blocks that are neighbours in the file.
    private struct Writer {
        let journal: Journal
        var place: Int
        private var kept: [Block] = []
        private var run: UInt64 = 0
        private var error: CInt = 0

        init(journal: Journal, place: Int) {
            self.journal = journal
            self.place = place
        }

        mutating func add(_ block: Block) {
            let target = journal.blocks[place]
            if !kept.isEmpty, target != run + UInt64(kept.count) || kept.count == 256 { flush() }
            if kept.isEmpty { run = target }
            kept.append(block)
            place += 1
            if place == journal.blocks.count { place = journal.first }
        }

        private mutating func flush() {
            guard error == 0, !kept.isEmpty else { return }
            let size = journal.blockSize
            error = journal.storage.write(kept.map { iovec(iov_base: $0.bytes, iov_len: size) }, at: run * UInt64(size))
            kept = []
        }

        mutating func finish() -> CInt {
            flush()
            return error
        }
    }
}
