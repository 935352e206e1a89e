import Glibc
import Linux

/// Making changes permanent.
extension ExtVolume {
    /// Makes all changes up to now permanent: they are on disk when it returns. Without the lock; one thread at a time.
    /// - Returns: an errno value, 0 for success.
    public func commit() -> CInt {
        let frozen = lock.locked { () -> (blocks: [(number: UInt64, block: Block)], hasDirectData: Bool)? in
            guard failure == 0 else { return nil }
            do throws(ExtError) { try writeMaps() } catch {
                failure = error.errno
                return nil
            }
            return store.hasChanges ? store.freeze() : ([], false)
        }
        guard let frozen else { return failure }
        let error = frozen.blocks.isEmpty ? (frozen.hasDirectData ? storage.synchronise() : 0) : write(frozen.blocks, frozen.hasDirectData)
        lock.locked {
            if error != 0 { failure = error }
            let freed = store.finishCommit()
            if error == 0 {
                discardable.formUnion(freed)
                if discardable.count > Self.discardLimit, !isBeingCopied { discard() }
            }
            lock.wakeAll()
        }
        if error == 0, lock.locked({ store.committed.count }) > Self.placingLimit, !isBeingCopied { return placeAll() }
        return error
    }

    /// Whether a commit would take no longer than the disk needs for a few blocks, and make no room anywhere. With the lock held, and
    /// nobody committing.
    public var hasLittleToCommit: Bool {
        let most = Self.smallCommit
        guard store.running.count <= most, !store.hasDirectData, store.committed.count + 2 * most <= Self.placingLimit else { return false }
        return discardable.count + store.freedCount <= Self.discardLimit && journal?.need(2 * most) == .nothing
    }

    /// Blocks, before those of the maps.
    private static let smallCommit = 32

    /// Committed blocks that are kept in memory at most, but for a copy's sake.
    private static let placingLimit = 4096

    private func write(_ blocks: [(number: UInt64, block: Block)], _ hasDirectData: Bool) -> CInt {
        // What new names lead to must be there before the names.
        if hasDirectData {
            let error = storage.synchronise()
            if error != 0 { return error }
        }
        guard let journal else {
            let error = BlockStore.place(blocks, in: storage, blockSize: blockSize)
            return error != 0 ? error : storage.synchronise()
        }
        switch journal.need(blocks.count) {
        case .nothing: break
        case .room:
            let error = makeRoom(in: journal, all: false)
            if error != 0 { return error }
            if journal.need(blocks.count) != .nothing {
                let error = makeRoom(in: journal, all: true)
                if error != 0 { return error }
            }
        case .impossible:
            // Larger than the journal, which no operation is meant to be.
            let error = makeRoom(in: journal, all: true)
            if error != 0 { return error }
            let placing = BlockStore.place(blocks, in: storage, blockSize: blockSize)
            return placing != 0 ? placing : storage.synchronise()
        }
        lock.locked { journal.announce(blocks) }
        let error = journal.append(blocks)
        return error != 0 ? error : storage.synchronise()
    }

    private func makeRoom(in journal: Journal, all: Bool) -> CInt {
        waitForCopies()
        var error = placeAll()
        if error == 0 { error = storage.synchronise() }
        // One that has begun meanwhile has read blocks before they changed, and needs what is forgotten here.
        waitForCopies()
        if error == 0 { error = lock.locked { journal.forget(all: all) } }
        return error != 0 ? error : storage.synchronise()
    }

    /// Writes committed blocks to their places. Without the lock.
    func placeAll() -> CInt {
        let blocks = lock.locked { store.placeable() }
        let error = BlockStore.place(blocks, in: storage, blockSize: blockSize)
        guard error == 0 else {
            lock.locked { failure = error }
            return error
        }
        lock.locked { store.finishPlacing(blocks) }
        return 0
    }
}
