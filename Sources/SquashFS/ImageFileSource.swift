import BlockIO

/// A regular file of an image, read at random.
public final class ImageFileSource: BlockSource {
    private let image: SquashFSImage
    private let layout: FileLayout
    /// Where the blocks of the file stand as they are, one behind the other; nil where any of them is compressed.
    private let plain: (source: any BlockSource, start: UInt64, count: UInt64)?

    /// Bytes of the file.
    public var size: UInt64 { layout.size }
    /// The path of the image, for messages.
    public var name: String { image.name }

    /// - Parameter layout: of a regular file of the image.
    public init(_ image: SquashFSImage, _ layout: FileLayout) {
        (self.image, self.layout) = (image, layout)
        let whole = UInt64(layout.blocks.count) * UInt64(image.blockSize)
        let stored = min(whole, layout.size)
        let isPlain = layout.blocks.enumerated().allSatisfy { index, word in
            let expected = min(UInt64(image.blockSize), layout.size - UInt64(index) * UInt64(image.blockSize))
            return !word.isCompressed && !word.isHole && UInt64(word.storedBytes) == expected
        }
        let isThere = (try? image.checkStored(at: layout.start, count: stored)) != nil
        plain = isPlain && isThere && stored > 0 ? (image.source, layout.start, stored) : nil
    }

    /// Reads up to the size of `buffer`, less at the end of the file only.
    /// - Returns: bytes read, 0 at the end.
    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockError) {
        guard offset <= size, UInt64(buffer.count) <= size - offset else {
            throw .outOfBounds(name: name, offset: offset, needed: buffer.count, size: size)
        }
        if let plain, offset + UInt64(buffer.count) <= plain.count {
            return try plain.source.read(into: buffer, at: plain.start + offset)
        }
        var done = 0
        while done < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count: Int
            do throws(SquashFSError) { count = try image.read(layout, at: offset + UInt64(done), into: rest) } catch {
                throw .unreadable(name: name, why: "\(error)")
            }
            guard count > 0 else { throw .outOfBounds(name: name, offset: offset, needed: buffer.count, size: size) }
            done += count
        }
    }
}
