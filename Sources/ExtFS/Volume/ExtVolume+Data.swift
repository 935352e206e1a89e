import CExt2
import Glibc

/// Where a part of a file is: blocks that are neighbours, in the file and on disk.
struct BlockRun {
    /// First block on disk; nil for a hole, or for blocks without content.
    var place: UInt64?
    var count: UInt64
}

/// The run that each of the files that were read lately was read from.
struct RunCache {
    private var runs: [UInt32: (first: UInt64, place: UInt64, count: UInt64)] = [:]

    func run(_ number: UInt32, _ block: UInt64, limit: UInt64) -> BlockRun? {
        guard let run = runs[number], block >= run.first, block < run.first + run.count else { return nil }
        return BlockRun(place: run.place + (block - run.first), count: min(limit, run.first + run.count - block))
    }

    mutating func keep(_ number: UInt32, first: UInt64, place: UInt64, count: UInt64) {
        if runs.count > 4096 { runs = [:] }
        runs[number] = (first, place, count)
    }

    mutating func forget(_ number: UInt32) { runs[number] = nil }
}

extension VolumeInode {
    /// Whether blocks of data may belong to it; a short link has its target in the place for their numbers.
    var hasData: Bool {
        if isInline { return false }
        switch mode & UInt32(S_IFMT) {
        case UInt32(S_IFREG), UInt32(S_IFDIR): return true
        case UInt32(S_IFLNK): return size >= 60 || usesExtents
        default: return false
        }
    }
}

extension ExtVolume {
    /// Finds a part of a file.
    /// - Parameter limit: blocks that are wanted at most.
    func mapped(_ number: UInt32, _ inode: inout VolumeInode, _ block: UInt64, limit: UInt64) throws(ExtError) -> BlockRun {
        if let run = lastRuns.run(number, block, limit: limit) { return run }
        if inode.usesExtents { return try mappedByExtents(number, &inode, block, limit: limit) }
        // By single blocks, as the lists of ext2 have them.
        var first: UInt64?
        var count: UInt64 = 0
        while count < limit {
            let (place, _) = try singleBlock(number, &inode, block + count)
            if count == 0 { first = place } else if place != first.map({ $0 + count }) { break }
            count += 1
        }
        if let first { lastRuns.keep(number, first: block, place: first, count: count) }
        return BlockRun(place: first, count: count)
    }

    private func singleBlock(_ number: UInt32, _ inode: inout VolumeInode, _ block: UInt64) throws(ExtError) -> (
        place: UInt64?, isUnwritten: Bool
    ) {
        var place: UInt64 = 0
        var flags: CInt = 0
        try ExtError.check(inode.withSmall { ext2fs_bmap2(system, number, $0, nil, 0, block, &flags, &place) })
        let isUnwritten = flags & BMAP_RET_UNINIT != 0
        return (place == 0 || isUnwritten ? nil : place, isUnwritten)
    }

    private func mappedByExtents(
        _ number: UInt32, _ inode: inout VolumeInode, _ block: UInt64, limit: UInt64
    ) throws(ExtError) -> BlockRun {
        let system = system
        var found = (first: UInt64(0), place: UInt64(0), count: UInt64(0))
        var run = BlockRun(place: nil, count: limit)
        let status = inode.withSmall { inode -> errcode_t in
            var handle: ext2_extent_handle_t?
            var status = ext2fs_extent_open2(system, number, inode, &handle)
            guard status == 0, let handle else { return status }
            defer { ext2fs_extent_free(handle) }
            status = ext2fs_extent_goto(handle, block)
            var extent = ext2fs_extent()
            if status == 0 {
                status = ext2fs_extent_get(handle, EXT2_EXTENT_CURRENT, &extent)
                if status != 0 { return status }
                let behind = extent.e_lblk + UInt64(extent.e_len)
                guard block >= extent.e_lblk, block < behind else { return errcode_t(EIO) }
                run.count = min(limit, behind - block)
                if extent.e_flags & UInt32(EXT2_EXTENT_FLAGS_UNINIT) == 0 {
                    run.place = extent.e_pblk + (block - extent.e_lblk)
                    found = (extent.e_lblk, extent.e_pblk, UInt64(extent.e_len))
                }
                return 0
            }
            guard status == EXT2_ET_EXTENT_NOT_FOUND else { return status }
            // A hole, up to the next extent: the handle stands at a neighbour.
            var operation = EXT2_EXTENT_CURRENT
            while ext2fs_extent_get(handle, operation, &extent) == 0 {
                if extent.e_lblk > block, extent.e_flags & UInt32(EXT2_EXTENT_FLAGS_LEAF) != 0 {
                    run.count = min(limit, extent.e_lblk - block)
                    break
                }
                operation = EXT2_EXTENT_NEXT_LEAF
            }
            return 0
        }
        try ExtError.check(status)
        if found.count > 0 { lastRuns.keep(number, first: found.first, place: found.place, count: found.count) }
        return run
    }

    // MARK: Reading

    /// Reads a file's bytes, from any place on.
    /// - Returns: how many there were.
    public func read(_ number: UInt32, at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(ExtError) -> Int {
        var inode = try readInode(number)
        guard offset < inode.size else { return 0 }
        let total = Int(min(UInt64(target.count), inode.size - offset))
        if inode.isInline { return try readInline(number, &inode, Int(offset), .init(rebasing: target[..<total])) }
        let size = UInt64(blockSize)
        var done = 0
        while done < total {
            let position = offset + UInt64(done)
            let inBlock = position % size
            let run = try mapped(number, &inode, position / size, limit: (UInt64(total - done) + inBlock + size - 1) / size)
            let count = Int(min(UInt64(total - done), run.count * size - inBlock))
            let part = UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count])
            if let place = run.place {
                let error = store.read(at: place * size + inBlock, part)
                if error != 0 { throw ExtError(error) }
            } else {
                memset(part.address, 0, count)
            }
            done += count
        }
        return done
    }

    /// Data of a small file may be in its inode.
    private func readInline(
        _ number: UInt32, _ inode: inout VolumeInode, _ offset: Int, _ target: UnsafeMutableRawBufferPointer
    ) throws(ExtError) -> Int {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 8)
        defer { buffer.deallocate() }
        var size = buffer.count
        let system = system
        try ExtError.check(inode.withSmall { ext2fs_inline_data_get(system, number, $0, buffer.baseAddress, &size) })
        let count = max(0, min(target.count, size - offset))
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[offset..<offset + count]))
        return count
    }

    // MARK: Writing

    /// Writes a file's bytes. No more than ``largestWrite`` at once.
    public func write(_ number: UInt32, at offset: UInt64, _ bytes: UnsafeRawBufferPointer) throws(ExtError) {
        var inode = try readInode(number)
        guard inode.isRegular else { throw ExtError(EINVAL) }
        let size = UInt64(blockSize)
        let end = offset + UInt64(bytes.count)
        let first = offset / size
        let count = (end + size - 1) / size - first
        var block = first
        while block < first + count {
            var run = try mapped(number, &inode, block, limit: first + count - block)
            if run.place == nil {
                run = try allocate(number, &inode, block, count: run.count)
                // What is not written of a new block is zero.
                try zeroEdges(run, block, from: offset, to: end)
                try put(bytes, from: offset, run, block, isNew: true)
            } else {
                try put(bytes, from: offset, run, block, isNew: false)
            }
            block += run.count
        }
        if end > inode.size { inode.size = end }
        try writeInode(number, &inode)
    }

    /// Bytes that one ``write(_:at:_:)`` should have at most.
    public var largestWrite: Int { largestOperation * blockSize }

    private func put(
        _ bytes: UnsafeRawBufferPointer, from offset: UInt64, _ run: BlockRun, _ block: UInt64, isNew: Bool
    ) throws(ExtError) {
        guard let place = run.place else { throw ExtError(EIO) }
        let size = UInt64(blockSize)
        let begin = max(offset, block * size)
        let end = min(offset + UInt64(bytes.count), (block + run.count) * size)
        let part = UnsafeRawBufferPointer(rebasing: bytes[Int(begin - offset)..<Int(end - offset)])
        let target = place * size + (begin - block * size)
        // Small writes are cheapest in the journal, and large ones of new data in their places.
        let isDirect =
            isNew && part.count >= Self.leastDirect && begin % size == 0 && end % size == 0
            && (0..<run.count).allSatisfy { mayWriteDirectly(place + $0) } && !isBeingCopied
        let error = isDirect ? store.writeDirectly(at: target, part) : store.write(at: target, part, isNew: isNew)
        if error != 0 { throw ExtError(error) }
    }

    /// Bytes of new data from which on they don't go through the journal.
    private static let leastDirect = 64 << 10

    private func zeroEdges(_ run: BlockRun, _ block: UInt64, from offset: UInt64, to end: UInt64) throws(ExtError) {
        guard let place = run.place else { return }
        let size = UInt64(blockSize)
        if offset > block * size { try zero(at: place * size, count: offset - block * size, isNew: true) }
        let last = (block + run.count) * size
        if end < last { try zero(at: (place + run.count) * size - (last - end), count: last - end, isNew: true) }
    }

    private func zero(at place: UInt64, count: UInt64, isNew: Bool = false) throws(ExtError) {
        let zeros = [UInt8](repeating: 0, count: Int(count))
        let error = zeros.withUnsafeBytes { store.write(at: place, $0, isNew: isNew) }
        if error != 0 { throw ExtError(error) }
    }

    /// Gives a file blocks where it has none, or such without content.
    /// - Returns: the first of them that are neighbours.
    private func allocate(_ number: UInt32, _ inode: inout VolumeInode, _ block: UInt64, count: UInt64) throws(ExtError) -> BlockRun {
        try needRoom(count * UInt64(blockSize))
        let system = system
        var first: UInt64 = 0
        var done: UInt64 = 0
        lastRuns.forget(number)
        while done < count {
            var place: UInt64 = 0
            let status = inode.withSmall { inode -> errcode_t in
                var flags: CInt = 0
                var status = ext2fs_bmap2(system, number, inode, nil, BMAP_ALLOC, block + done, &flags, &place)
                if status == 0, flags & BMAP_RET_UNINIT != 0 {
                    // Its block is there; from now on it has content.
                    var same = place
                    status = ext2fs_bmap2(system, number, inode, nil, BMAP_SET, block + done, nil, &same)
                }
                return status
            }
            if status != 0 {
                if done > 0 { break }
                try ExtError.check(status)
            }
            if done == 0 {
                first = place
            } else if place != first + done {
                // It stays allocated, and is found by the next call; until it is written it shows zeros.
                try zero(at: place * UInt64(blockSize), count: UInt64(blockSize))
                break
            }
            done += 1
        }
        do throws(ExtError) { try back(first, count: done) } catch {
            _ = inode.withSmall { ext2fs_punch(system, number, $0, nil, block, block + done - 1) }
            throw error
        }
        return BlockRun(place: first, count: done)
    }

    // MARK: Sizes

    /// Changes a file's size.
    /// - Returns: whether it has it now; otherwise to be called again, in a later transaction.
    public func resize(_ number: UInt32, to size: UInt64) throws(ExtError) -> Bool {
        var inode = try readInode(number)
        guard inode.isRegular else { throw ExtError(inode.isDirectory ? EISDIR : EINVAL) }
        if size < inode.size {
            guard try shrink(number, &inode, to: size) else { return false }
            // What a later extension shows of the last block is zero.
            let rest = size % UInt64(blockSize)
            if rest != 0 {
                let run = try mapped(number, &inode, size / UInt64(blockSize), limit: 1)
                if let place = run.place { try zero(at: place * UInt64(blockSize) + rest, count: UInt64(blockSize) - rest) }
            }
        }
        inode.size = size
        inode.modificationTime = Self.now
        inode.changeTime = inode.modificationTime
        try writeInode(number, &inode)
        return true
    }

    /// Blocks that are freed in one step: a transaction must hold the maps of them.
    private static let blocksAStep: UInt64 = 1 << 18

    /// Frees blocks behind an end, a step of the last ones.
    /// - Returns: whether nothing is left of them.
    func shrink(_ number: UInt32, _ inode: inout VolumeInode, to size: UInt64) throws(ExtError) -> Bool {
        let blocks = UInt64(blockSize)
        let end = (size + blocks - 1) / blocks
        let system = system
        lastRuns.forget(number)
        let last = (inode.size + blocks - 1) / blocks
        let from = last > end + Self.blocksAStep ? last - Self.blocksAStep : end
        try ExtError.check(inode.withSmall { ext2fs_punch(system, number, $0, nil, from, ~0) })
        if from == end { return true }
        inode.size = from * blocks
        try writeInode(number, &inode)
        return false
    }

    /// Makes a hole.
    public func punch(_ number: UInt32, from offset: UInt64, count: UInt64) throws(ExtError) {
        var inode = try readInode(number)
        // libext2fs makes no holes across the beginning of a list of blocks.
        guard inode.isRegular, inode.usesExtents else { throw ExtError(EOPNOTSUPP) }
        let size = UInt64(blockSize)
        let end = min(offset + count, inode.size)
        guard offset < end else { return }
        lastRuns.forget(number)
        let first = (offset + size - 1) / size
        let last = end == inode.size ? (end + size - 1) / size : end / size
        func zeroPart(_ from: UInt64, _ to: UInt64) throws(ExtError) {
            guard from < to else { return }
            let run = try mapped(number, &inode, from / size, limit: 1)
            if let place = run.place { try zero(at: place * size + from % size, count: to - from) }
        }
        if first > last {
            try zeroPart(offset, end)
        } else {
            try zeroPart(offset, min(end, first * size))
            if end > last * size { try zeroPart(max(offset, last * size), end) }
            if last > first {
                let system = system
                try ExtError.check(inode.withSmall { ext2fs_punch(system, number, $0, nil, first, last - 1) })
            }
        }
        lastRuns.forget(number)
        inode.modificationTime = Self.now
        inode.changeTime = inode.modificationTime
        try writeInode(number, &inode)
    }

    /// Allocates blocks without content, so that later writes surely have room.
    public func reserve(_ number: UInt32, from offset: UInt64, count: UInt64, keepSize: Bool) throws(ExtError) {
        var inode = try readInode(number)
        guard inode.isRegular, inode.usesExtents else { throw ExtError(EOPNOTSUPP) }
        let size = UInt64(blockSize)
        try needRoom(count)
        if ext2fs_free_blocks_count(superblock) < count / size { throw ExtError(ENOSPC) }
        lastRuns.forget(number)
        let first = offset / size
        let blocks = (offset + count + size - 1) / size - first
        let system = system
        let status = notingGroups {
            inode.withSmall { ext2fs_fallocate(system, EXT2_FALLOCATE_FORCE_UNINIT, number, $0, ~0, first, blocks) }
        }
        try ExtError.check(status)
        if !keepSize, offset + count > inode.size { inode.size = offset + count }
        inode.changeTime = Self.now
        try writeInode(number, &inode)
        var block = first
        while block < first + blocks {
            var handlePlace: UInt64 = 0
            try ExtError.check(inode.withSmall { ext2fs_bmap2(system, number, $0, nil, 0, block, nil, &handlePlace) })
            if handlePlace != 0 { try back(handlePlace, count: 1) }
            block += max(1, (1 << 20) / size)
        }
    }
}
