import Glibc
import Linux

/// A block's bytes, which nobody changes once a commit of them has begun.
final class Block {
    let bytes: UnsafeMutableRawPointer

    init(size: Int) {
        bytes = .allocate(byteCount: size, alignment: 4096)
    }

    deinit { bytes.deallocate() }
}

/// The blocks of an ext file system that is being changed.
///
/// A change is first in ``running``; a commit freezes that as a whole and writes it to the journal; after that it may be
/// written to its place. Whoever reads gets the newest.
///
/// Not safe for threads: all is behind the lock of the ``ExtVolume``.
final class BlockStore {
    private let storage: any VolumeStorage
    /// Bytes; known once the superblock has been read.
    private(set) var blockSize = 1024

    /// Changed since the last commit began.
    private(set) var running: [UInt64: Block] = [:]
    /// A commit is writing them to the journal.
    private(set) var committing: [UInt64: Block] = [:]
    /// In the journal, and not in their places.
    private(set) var committed: [UInt64: Block] = [:]
    /// Blocks that became free and must not be overwritten in place before that is committed: those of the running
    /// transaction, and those of the one that is being committed.
    private var freed: (running: Set<UInt64>, committing: Set<UInt64>) = ([], [])
    /// Data was written to its place since the last commit began.
    private(set) var hasDirectData = false

    init(_ storage: any VolumeStorage) { self.storage = storage }

    func use(blockSize: Int) {
        precondition(running.isEmpty && committing.isEmpty && committed.isEmpty)
        self.blockSize = blockSize
    }

    // MARK: Reading

    private func newest(_ block: UInt64) -> Block? { running[block] ?? committing[block] ?? committed[block] }

    /// - Returns: an errno value, 0 for success.
    func read(at offset: UInt64, _ target: UnsafeMutableRawBufferPointer) -> CInt {
        let size = UInt64(blockSize)
        if running.isEmpty && committing.isEmpty && committed.isEmpty { return storage.read(at: offset, target) }
        var done = 0
        // Where the part that comes from the file begins.
        var pending = 0
        while done < target.count {
            let position = offset + UInt64(done)
            let inBlock = Int(position % size)
            let count = min(blockSize - inBlock, target.count - done)
            if let block = newest(position / size) {
                if pending < done {
                    let error = storage.read(at: offset + UInt64(pending), .init(rebasing: target[pending..<done]))
                    if error != 0 { return error }
                }
                UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count])
                    .copyMemory(from: .init(start: block.bytes + inBlock, count: count))
                pending = done + count
            }
            done += count
        }
        return pending < done ? storage.read(at: offset + UInt64(pending), .init(rebasing: target[pending..<done])) : 0
    }

    // MARK: Writing

    /// Changes bytes, as a part of the running transaction.
    /// - Parameter isNew: what the blocks had before is nobody's, and may not even be readable.
    func write(at offset: UInt64, _ bytes: UnsafeRawBufferPointer, isNew: Bool = false) -> CInt {
        let size = UInt64(blockSize)
        var done = 0
        while done < bytes.count {
            let position = offset + UInt64(done)
            let inBlock = Int(position % size)
            let count = min(blockSize - inBlock, bytes.count - done)
            let number = position / size
            let target: Block
            if let block = running[number] {
                target = block
            } else {
                target = Block(size: blockSize)
                if count < blockSize, isNew {
                    memset(target.bytes, 0, blockSize)
                } else if count < blockSize {
                    let error = read(at: number * size, .init(start: target.bytes, count: blockSize))
                    if error != 0 { return error }
                }
                running[number] = target
            }
            memcpy(target.bytes + inBlock, bytes.address + done, count)
            done += count
        }
        return 0
    }

    /// Whether data may be written to the place of a block at once: nothing older may come back there, neither from the
    /// journal nor by undoing what freed it.
    /// - Parameter isJournaled: the journal may still have an older state of it.
    func mayWriteDirectly(_ block: UInt64, isJournaled: Bool) -> Bool {
        !isJournaled && running[block] == nil && committing[block] == nil && committed[block] == nil
            && !isBeingFreed(block)
    }

    /// Writes data of new blocks to their places.
    func writeDirectly(at offset: UInt64, _ bytes: UnsafeRawBufferPointer) -> CInt {
        hasDirectData = true
        return storage.write(bytes, at: offset)
    }

    func markFree(_ block: UInt64) { freed.running.insert(block) }

    /// Whether a block becomes free with a transaction that is not in the journal yet.
    func isBeingFreed(_ block: UInt64) -> Bool { freed.running.contains(block) || freed.committing.contains(block) }

    /// Blocks that became free since the last commit began.
    var freedCount: Int { freed.running.count }

    // MARK: Commits

    /// Whether anything is there to be committed.
    var hasChanges: Bool { !running.isEmpty || hasDirectData }

    /// Begins a commit of all changes up to now.
    /// - Returns: the blocks by number, and whether data in its place must be on disk before them.
    func freeze() -> (blocks: [(number: UInt64, block: Block)], hasDirectData: Bool) {
        precondition(committing.isEmpty)
        (committing, running) = (running, [:])
        (freed.committing, freed.running) = (freed.running, [])
        defer { hasDirectData = false }
        return (committing.map { ($0.key, $0.value) }.sorted { $0.number < $1.number }, hasDirectData)
    }

    /// The commit is in the journal.
    /// - Returns: blocks that are free since it.
    func finishCommit() -> Set<UInt64> {
        committed.merge(committing) { _, new in new }
        committing = [:]
        defer { freed.committing = [] }
        return freed.committing
    }

    /// What a free block had need not go to its place.
    func forgetFree(_ block: UInt64) { committed[block] = nil }

    /// The blocks that could be written to their places now.
    func placeable() -> [(number: UInt64, block: Block)] {
        committed.map { ($0.key, $0.value) }.sorted { $0.number < $1.number }
    }

    /// They have been written to their places.
    func finishPlacing(_ blocks: [(number: UInt64, block: Block)]) {
        for (number, block) in blocks where committed[number] === block { committed[number] = nil }
    }

    /// Writes blocks to their places; neighbours in one call.
    static func place(_ blocks: [(number: UInt64, block: Block)], in storage: any VolumeStorage, blockSize: Int) -> CInt {
        var index = 0
        while index < blocks.count {
            var parts: [iovec] = []
            let first = blocks[index].number
            while index < blocks.count, parts.count < 256, blocks[index].number == first + UInt64(parts.count) {
                parts.append(iovec(iov_base: blocks[index].block.bytes, iov_len: blockSize))
                index += 1
            }
            let error = storage.write(parts, at: first * UInt64(blockSize))
            if error != 0 { return error }
        }
        return 0
    }
}
