import BlockIO
import Compression

/// Up to 8192 plain bytes of a table, stored behind a two-byte header ("SquashFS 4.0, metadata blocks").
public final class MetadataBlock: Sendable {
    /// Plain bytes that one block holds.
    public static let capacity = 8192
    static let uncompressedBit: UInt16 = 0x8000

    /// The plain bytes.
    let bytes: [UInt8]
    /// Where the next block starts, bytes from the start of the file system.
    let next: UInt64

    init(bytes: [UInt8], next: UInt64) {
        self.bytes = bytes
        self.next = next
    }
}

/// Collects a table and compresses it block by block, in memory.
struct MetadataWriter {
    private let compressor: BlockCompressor
    private var plain: [UInt8] = []
    /// The blocks that are complete.
    private(set) var stored: [UInt8] = []
    /// Where in ``stored`` each block starts.
    private(set) var blockStarts: [UInt64] = []

    init(compressor: BlockCompressor) {
        self.compressor = compressor
        plain.reserveCapacity(2 * MetadataBlock.capacity)
    }

    /// Where the next byte will stand: a block, relative to the table, and an offset in its plain bytes.
    var position: InodeReference { InodeReference(block: UInt64(stored.count), offset: plain.count) }

    mutating func append(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = min(rest.count, MetadataBlock.capacity - plain.count)
            plain += rest.prefix(count)
            rest = rest.dropFirst(count)
            if plain.count == MetadataBlock.capacity { flush() }
        }
    }

    /// Writes the last, short block.
    mutating func finish() { if !plain.isEmpty { flush() } }

    private mutating func flush() {
        blockStarts.append(UInt64(stored.count))
        let plainCount = plain.count
        var packed = [UInt8](repeating: 0, count: plainCount)
        let count = plain.withUnsafeBytes { source in
            packed.withUnsafeMutableBytes { target in
                compressor.compress(
                    source, into: UnsafeMutableRawBufferPointer(rebasing: target[..<(plainCount - 1)]))
            }
        }
        if let count {
            stored.append(littleEndian: UInt16(count))
            stored += packed[..<count]
        } else {
            stored.append(littleEndian: UInt16(plainCount) | MetadataBlock.uncompressedBit)
            stored += plain
        }
        plain.removeAll(keepingCapacity: true)
    }
}
