import BlockIO
import Compression
import Glibc

extension SquashFSImage {
    /// Reads bytes of a file.
    /// - Returns: bytes filled; fewer than `buffer` holds only at the end of the file.
    public func read(
        _ layout: FileLayout, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SquashFSError) -> Int {
        guard offset < layout.size else { return 0 }
        let wanted = Int(min(UInt64(buffer.count), layout.size - offset))
        var done = 0
        while done < wanted {
            let position = offset + UInt64(done)
            let index = Int(position / UInt64(blockSize))
            let within = Int(position % UInt64(blockSize))
            let blockBytes = Int(min(UInt64(blockSize), layout.size - UInt64(index) * UInt64(blockSize)))
            let count = min(wanted - done, blockBytes - within)
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count])
            if index < layout.blocks.count {
                try readBlock(layout, index: index, plainBytes: blockBytes, from: within, into: target)
            } else {
                guard let fragment = layout.fragment else { throw corrupt("file without its tail", at: layout.start) }
                let entry = try self.fragment(fragment)
                let block = try cachedBlock(at: entry.start, word: entry.word)
                let start = Int(layout.fragmentOffset) + within
                guard start + count <= block.count else { throw corrupt("fragment shorter than its files", at: entry.start) }
                target.copyMemory(from: UnsafeRawBufferPointer(rebasing: block.bytes[start..<start + count]))
            }
            done += count
        }
        return done
    }

    /// Lends the plain bytes of a block of a file, all of them, and nothing where the block is a hole.
    /// - Parameter index: of the block; a tail in a fragment is none.
    public func withBlock(_ index: Int, of layout: FileLayout, _ body: (UnsafeRawBufferPointer) -> Void) throws(SquashFSError) {
        let word = layout.blocks[index]
        if word.isHole { return }
        let position = layout.position(ofBlock: index)
        let block = try cachedBlock(at: position, word: word)
        let size = Int(min(UInt64(blockSize), layout.size - UInt64(index) * UInt64(blockSize)))
        guard block.count >= size else { throw corrupt("data block of \(block.count) plain bytes", at: position) }
        body(UnsafeRawBufferPointer(rebasing: block.bytes[..<size]))
    }

    private func readBlock(
        _ layout: FileLayout, index: Int, plainBytes: Int, from within: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(SquashFSError) {
        let word = layout.blocks[index]
        if word.isHole {
            target.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        let position = layout.position(ofBlock: index)
        if within == 0 && target.count == plainBytes && !blocks.contains(position) {
            // The whole block is wanted: decode it where it is wanted, the reader's own cache will keep it.
            willWait()
            let count = try decode(at: position, word: word, into: target)
            if count < target.count {
                UnsafeMutableRawBufferPointer(rebasing: target[count...]).initializeMemory(as: UInt8.self, repeating: 0)
            }
            return
        }
        let block = try cachedBlock(at: position, word: word)
        let available = max(0, min(target.count, block.count - within))
        if available > 0 {
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: block.bytes[within..<within + available]))
        }
        if available < target.count {
            UnsafeMutableRawBufferPointer(rebasing: target[available...]).initializeMemory(as: UInt8.self, repeating: 0)
        }
    }

    /// A decoded data or fragment block, from the cache where it is there.
    func cachedBlock(at position: UInt64, word: BlockWord) throws(SquashFSError) -> DecodedBlock {
        try blocks.block(at: position, capacity: blockSize) { target throws(SquashFSError) in
            try decode(at: position, word: word, into: target)
        }
    }

    /// Reads and decodes one stored block.
    /// - Returns: its plain bytes.
    private func decode(
        at position: UInt64, word: BlockWord, into target: UnsafeMutableRawBufferPointer
    ) throws(SquashFSError) -> Int {
        let stored = word.storedBytes
        let (end, overflow) = position.addingReportingOverflow(UInt64(stored))
        guard !overflow, end <= superblock.bytesUsed, stored > 0, stored <= blockSize else {
            throw corrupt("data block of \(stored) bytes", at: position)
        }
        if !word.isCompressed {
            guard stored <= target.count else { throw corrupt("data block of \(stored) bytes", at: position) }
            do { try source.read(into: UnsafeMutableRawBufferPointer(rebasing: target[..<stored]), at: position) } catch {
                throw .block(error)
            }
            return stored
        }
        return try decompressors.decode(from: source, at: position, count: stored, into: target)
    }

    /// The stored bytes of a file's blocks, to be copied as they are into another image.
    func storedBytes(at position: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(SquashFSError) {
        try checkStored(at: position, count: UInt64(buffer.count))
        do { try source.read(into: buffer, at: position) } catch { throw .block(error) }
    }

    func checkStored(at position: UInt64, count: UInt64) throws(SquashFSError) {
        guard position <= superblock.bytesUsed, count <= superblock.bytesUsed - position else {
            throw corrupt("data blocks of \(count) bytes", at: position)
        }
    }
}
