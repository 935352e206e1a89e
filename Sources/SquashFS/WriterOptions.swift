import BlockIO
import Compression

/// How an image is written.
public struct WriterOptions: Sendable {
    /// Of data, fragments and metadata.
    public var compressor: Compressor
    /// Within ``Compressor/levels``.
    public var level: Int
    /// Bytes, a power of two from 4096 to 1 MiB.
    public var blockSize: Int
    /// Threads that compress, at least 1.
    public var threads: Int
    /// Unix seconds that the superblock gets; nil leaves 0.
    public var modificationTime: UInt32?
    /// Contents of files are compressed; without it they can be found in the image as they are.
    public var compressesData = true

    /// Values that the format does not allow are refused when the writer is made.
    /// - Parameters:
    ///   - level: nil for the compressor's default.
    ///   - blockSize: bytes, a power of two from 4 KiB to 1 MiB.
    ///   - threads: that compress.
    ///   - modificationTime: of the image, Unix seconds; nil for 0.
    public init(
        compressor: Compressor = .zstd, level: Int? = nil, blockSize: Int = 131_072, threads: Int = 1,
        modificationTime: UInt32? = nil
    ) {
        self.compressor = compressor
        self.level = level ?? compressor.defaultLevel
        self.blockSize = blockSize
        self.threads = max(1, threads)
        self.modificationTime = modificationTime
    }

    /// - Throws: ``SquashFSError/unsupported(name:what:)`` that names the value which cannot be used.
    func check() throws(SquashFSError) {
        guard blockSize.nonzeroBitCount == 1, (4096...(1 << 20)).contains(blockSize) else {
            throw .unsupported(name: "block size \(blockSize)", what: "anything but a power of two from 4096 to 1048576")
        }
        guard let levels = compressor.levels else {
            throw .unsupported(name: compressor.name, what: "writing this compressor")
        }
        guard levels.contains(level) else {
            throw .unsupported(
                name: "\(compressor.name) level \(level)", what: "anything but \(levels.lowerBound) to \(levels.upperBound)")
        }
    }

    /// The compressor options as they follow the superblock, nil where the defaults of the format hold.
    var compressorOptions: [UInt8]? {
        var payload: [UInt8] = []
        switch compressor {
        case .gzip:
            // libdeflate goes to 12, the format to 9; readers do not look at it.
            guard level < 9 else { return nil }
            payload.append(littleEndian: UInt32(level))
            payload.append(littleEndian: UInt16(15))
            payload.append(littleEndian: UInt16(1))
        case .xz: return nil
        case .lz4:
            payload.append(littleEndian: UInt32(1))
            payload.append(littleEndian: UInt32(level > 1 ? 1 : 0))
        case .zstd:
            guard level != 15 else { return nil }
            payload.append(littleEndian: UInt32(level))
        case .lzo, .lzma: return nil
        }
        var out: [UInt8] = []
        out.append(littleEndian: UInt16(payload.count) | MetadataBlock.uncompressedBit)
        return out + payload
    }
}
