import CExt2
import Glibc

/// Brings what a journal has to its place, after a crash (JBD2 in the kernel's "ext4 Data Structures and Algorithms").
///
/// e2fsck cannot do it where the file system begins in the middle of a file. Journals of the kernel are read as well as our own.
///
/// Everything that is read may be damaged: numbers are checked before they are used, and a transaction counts only as a whole.
struct JournalReplay {
    private let storage: any VolumeStorage
    private let blockSize: Int
    /// Blocks of the file system.
    private let blockCount: UInt64
    private let blocks: [UInt64]
    private var superblock: [UInt8]
    private let first: Int
    private let length: Int
    private let incompatible: UInt32
    private let hasTransactionChecksums: Bool
    private let seed: UInt32

    private static let magic: UInt32 = 0xc03b_3998
    private enum Feature {
        static let longNumbers: UInt32 = 2
        static let checksums2: UInt32 = 8
        static let checksums3: UInt32 = 16
        static let fastCommits: UInt32 = 32
        static let known: UInt32 = 1 | 2 | 4 | 8 | 16
    }

    /// - Returns: nil where it makes no sense, or has something that is not known.
    init?(_ storage: any VolumeStorage, _ journal: JournalPlace) {
        self.storage = storage
        blockSize = journal.blockSize
        blockCount = journal.blockCount
        blocks = journal.blocks
        guard let place = blocks.first else { return nil }
        superblock = [UInt8](repeating: 0, count: blockSize)
        let offset = place * UInt64(blockSize)
        guard superblock.withUnsafeMutableBytes({ storage.read(at: offset, $0) }) == 0 else { return nil }
        func word(_ superblock: [UInt8], _ offset: Int) -> UInt32 {
            superblock.withUnsafeBytes { UInt32(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        }
        length = Int(word(superblock, 16))
        first = Int(word(superblock, 20))
        incompatible = word(superblock, 40)
        hasTransactionChecksums = word(superblock, 36) & 1 != 0
        seed = superblock.withUnsafeBytes { ext2fs_crc32c_le(~0, $0.address.assumingMemoryBound(to: UInt8.self) + 48, 16) }
        guard word(superblock, 0) == Self.magic, [3, 4].contains(word(superblock, 4)), Int(word(superblock, 12)) == blockSize,
            length <= blocks.count, first >= 1, first < length, incompatible & ~Feature.known == 0
        else { return nil }
    }

    private func field(_ offset: Int) -> UInt32 {
        superblock.withUnsafeBytes { UInt32(bigEndian: $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
    }

    private var hasBlockChecksums: Bool { incompatible & (Feature.checksums2 | Feature.checksums3) != 0 }

    private var tagSize: Int {
        if incompatible & Feature.checksums3 != 0 { return 16 }
        return (incompatible & Feature.longNumbers != 0 ? 12 : 8) + (incompatible & Feature.checksums2 != 0 ? 2 : 0)
    }

    /// A block that a transaction changes.
    private struct Change {
        var number: UInt64
        /// In the journal.
        var place: Int
        var isEscaped: Bool
        var checksum: UInt32
    }

    private struct Transaction {
        var sequence: UInt32
        var changes: [Change] = []
        var revoked: [UInt64] = []
    }

    /// Writes all complete transactions to their places, and empties the journal.
    /// - Returns: how many there were; nil for an error of the file.
    mutating func run() -> Int? {
        let begin = Int(field(28))
        guard begin != 0 else { return 0 }
        guard begin >= first, begin < length else { return nil }
        let transactions = scan(from: begin, sequence: field(24))
        // What was freed and used for data since must not come back from an older transaction.
        var revoked: [UInt64: UInt32] = [:]
        for transaction in transactions { for number in transaction.revoked { revoked[number] = transaction.sequence } }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 4096)
        defer { buffer.deallocate() }
        for transaction in transactions {
            for change in transaction.changes {
                if let later = revoked[change.number], Int32(bitPattern: later &- transaction.sequence) >= 0 { continue }
                guard read(change.place, buffer) else { return nil }
                if change.isEscaped { buffer.storeBytes(of: Self.magic.bigEndian, as: UInt32.self) }
                guard storage.write(UnsafeRawBufferPointer(buffer), at: change.number * UInt64(blockSize)) == 0 else { return nil }
            }
        }
        guard storage.synchronise() == 0 else { return nil }
        let next = (transactions.last?.sequence ?? field(24)) &+ 1
        let checksums = hasBlockChecksums
        superblock.withUnsafeMutableBytes {
            $0.storeBytes(of: next.bigEndian, toByteOffset: 24, as: UInt32.self)
            $0.storeBytes(of: 0, toByteOffset: 28, as: UInt32.self)
            guard checksums, $0.count >= 1024 else { return }
            $0.storeBytes(of: 0, toByteOffset: 252, as: UInt32.self)
            let checksum = ext2fs_crc32c_le(~0, $0.address.assumingMemoryBound(to: UInt8.self), 1024)
            $0.storeBytes(of: checksum.bigEndian, toByteOffset: 252, as: UInt32.self)
        }
        guard superblock.withUnsafeBytes({ storage.writeSafely($0, at: blocks[0] * UInt64(blockSize)) }) == 0,
            storage.synchronise() == 0
        else { return nil }
        return transactions.count
    }

    private func read(_ place: Int, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        storage.read(at: blocks[place] * UInt64(blockSize), buffer) == 0
    }

    private func word(_ buffer: UnsafeMutableRawBufferPointer, _ offset: Int) -> UInt32 {
        UInt32(bigEndian: UnsafeRawBufferPointer(buffer).loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    private func bytes(_ buffer: UnsafeMutableRawBufferPointer) -> UnsafePointer<UInt8> {
        UnsafePointer(buffer.address.assumingMemoryBound(to: UInt8.self))
    }

    /// Complete transactions, the oldest first.
    private func scan(from begin: Int, sequence: UInt32) -> [Transaction] {
        var out: [Transaction] = []
        var current = Transaction(sequence: sequence)
        var place = begin
        var left = length - first
        var checksum = ~UInt32(0)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 4096)
        let data = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 4096)
        defer {
            buffer.deallocate()
            data.deallocate()
        }
        func advance() {
            place += 1
            if place == length { place = first }
            left -= 1
        }
        while left > 0 {
            guard read(place, buffer), word(buffer, 0) == Self.magic, word(buffer, 8) == current.sequence else { break }
            switch word(buffer, 4) {
            case 1:
                guard hasValidTail(buffer), let tags = tags(in: buffer), tags.count < left else { return out }
                checksum = ext2fs_crc32_be(checksum, bytes(buffer), blockSize)
                advance()
                for tag in tags {
                    var change = tag
                    change.place = place
                    guard change.number < blockCount, read(place, data) else { return out }
                    if hasTransactionChecksums { checksum = ext2fs_crc32_be(checksum, bytes(data), blockSize) }
                    if hasBlockChecksums, !isValid(data, change, current.sequence) { return out }
                    current.changes.append(change)
                    advance()
                }
            case 2:
                if hasTransactionChecksums, buffer[12] == 1, word(buffer, 16) != checksum { return out }
                if hasBlockChecksums, !isValidCommit(buffer) { return out }
                out.append(current)
                current = Transaction(sequence: current.sequence &+ 1)
                checksum = ~0
                advance()
            case 5:
                guard hasValidTail(buffer) else { return out }
                let size = incompatible & Feature.longNumbers != 0 ? 8 : 4
                let end = min(Int(word(buffer, 12)), blockSize)
                var offset = 16
                while offset + size <= end {
                    let high = size == 8 ? UInt64(word(buffer, offset)) << 32 : 0
                    current.revoked.append(high | UInt64(word(buffer, offset + size - 4)))
                    offset += size
                }
                advance()
            default: return out
            }
        }
        return out
    }

    /// The tags of a descriptor block, without the places of their blocks.
    private func tags(in buffer: UnsafeMutableRawBufferPointer) -> [Change]? {
        var out: [Change] = []
        var offset = 12
        let end = blockSize - (hasBlockChecksums ? 4 : 0)
        while offset + tagSize <= end {
            let raw = UnsafeRawBufferPointer(buffer)
            var number = UInt64(word(buffer, offset))
            let flags: UInt32
            var checksum: UInt32 = 0
            if incompatible & Feature.checksums3 != 0 {
                flags = word(buffer, offset + 4)
                number |= UInt64(word(buffer, offset + 8)) << 32
                checksum = word(buffer, offset + 12)
            } else {
                checksum = UInt32(UInt16(bigEndian: raw.loadUnaligned(fromByteOffset: offset + 4, as: UInt16.self)))
                flags = UInt32(UInt16(bigEndian: raw.loadUnaligned(fromByteOffset: offset + 6, as: UInt16.self)))
                if incompatible & Feature.longNumbers != 0 { number |= UInt64(word(buffer, offset + 8)) << 32 }
            }
            out.append(Change(number: number, place: 0, isEscaped: flags & 1 != 0, checksum: checksum))
            offset += tagSize
            // The same UUID: none follows.
            if flags & 2 == 0 { offset += 16 }
            if flags & 8 != 0 { return out }
        }
        return out.isEmpty ? nil : out
    }

    // MARK: The kernel's checksums

    private func hasValidTail(_ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        guard hasBlockChecksums else { return true }
        let stored = word(buffer, blockSize - 4)
        buffer.storeBytes(of: 0, toByteOffset: blockSize - 4, as: UInt32.self)
        defer { buffer.storeBytes(of: stored.bigEndian, toByteOffset: blockSize - 4, as: UInt32.self) }
        return ext2fs_crc32c_le(seed, bytes(buffer), blockSize) == stored
    }

    private func isValid(_ data: UnsafeMutableRawBufferPointer, _ change: Change, _ sequence: UInt32) -> Bool {
        var number = sequence.bigEndian
        var sum = withUnsafeBytes(of: &number) { ext2fs_crc32c_le(seed, $0.address.assumingMemoryBound(to: UInt8.self), 4) }
        sum = ext2fs_crc32c_le(sum, bytes(data), blockSize)
        return incompatible & Feature.checksums3 != 0 ? sum == change.checksum : sum & 0xffff == change.checksum
    }

    private func isValidCommit(_ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        let stored = word(buffer, 16)
        buffer.storeBytes(of: 0, toByteOffset: 16, as: UInt32.self)
        defer { buffer.storeBytes(of: stored.bigEndian, toByteOffset: 16, as: UInt32.self) }
        return ext2fs_crc32c_le(seed, bytes(buffer), blockSize) == stored
    }
}

extension ExtVolume {
    /// Replays the journal of a file system that was not left cleanly. Nobody else may use it.
    /// - Parameter storage: may be written.
    /// - Returns: how many transactions there were; nil where there is no journal, or it needs nothing.
    public static func replayJournal(_ storage: any VolumeStorage, name: String) throws(ExtImage.Failure) -> Int? {
        let needs = { () -> Bool in
            var features: UInt32 = 0
            return withUnsafeMutableBytes(of: &features) { storage.read(at: 1024 + 96, $0) } == 0
                && features & UInt32(EXT3_FEATURE_INCOMPAT_RECOVER) != 0
        }
        guard needs() else { return nil }
        let place: JournalPlace
        if let kept = storage.journalPlace {
            place = kept
        } else {
            let volume = try ExtVolume(storage, name: name, isReadOnly: true)
            place = JournalPlace(
                blockSize: volume.blockSize, blockCount: ext2fs_blocks_count(volume.superblock), blocks: volume.journalBlocks())
        }
        guard var replay = JournalReplay(storage, place), let transactions = replay.run() else {
            throw ExtImage.Failure(
                description: "\(name): its journal cannot be replayed; `singularity overlay check --repair` goes on without it")
        }
        try forgetJournal(storage, name: name)
        return transactions
    }

    /// Says that nothing is to be replayed.
    public static func forgetJournal(_ storage: any VolumeStorage, name: String) throws(ExtImage.Failure) {
        // What was replayed may have changed it.
        let volume = try ExtVolume(storage, name: name, isReadOnly: true)
        volume.superblock.pointee.s_feature_incompat &= ~UInt32(EXT3_FEATURE_INCOMPAT_RECOVER)
        guard volume.writeSuperblockInPlace() == 0 else {
            throw ExtImage.Failure(description: "\(name) cannot be written: \(String(cString: strerror(errno)))")
        }
    }

    /// Removes the directory that e2fsck has made, where it is empty: a program may want an empty one.
    public func dropEmptyLostAndFound() throws(ExtError) {
        let name = Array("lost+found".utf8)
        guard let lost = try lookUp(name, in: Self.root), try readInode(lost).isDirectory, try isEmpty(lost) else { return }
        _ = try remove(name, from: Self.root, isDirectory: true)
        while !(try free(lost)) {}
    }
}
