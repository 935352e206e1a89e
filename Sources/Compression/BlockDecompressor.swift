import CDeflate
import CLZ4
import CLZMA
import CLZO
import CZstd

/// Decompresses whole blocks of one format. Holds the library's working memory: one object a thread.
public final class BlockDecompressor {
    private enum State {
        case gzip(OpaquePointer)
        case zstd(OpaquePointer)
        case lz4, lzo, xz, lzma
    }

    private let state: State
    private let compressor: Compressor
    /// Memory that a hostile xz or lzma header may make the decoder take, bytes.
    private static let memoryLimit: UInt64 = 64 << 20

    /// - Throws: ``CompressionError`` where the library gives no memory.
    public init(_ compressor: Compressor) throws(CompressionError) {
        self.compressor = compressor
        switch compressor {
        case .gzip:
            guard let handle = libdeflate_alloc_decompressor() else { throw .outOfMemory }
            state = .gzip(handle)
        case .zstd:
            guard let handle = ZSTD_createDCtx() else { throw .outOfMemory }
            state = .zstd(handle)
        case .lz4: state = .lz4
        case .lzo: state = .lzo
        case .xz: state = .xz
        case .lzma: state = .lzma
        }
    }

    deinit {
        switch state {
        case .gzip(let handle): libdeflate_free_decompressor(handle)
        case .zstd(let handle): ZSTD_freeDCtx(handle)
        case .lz4, .lzo, .xz, .lzma: break
        }
    }

    /// Decompresses one block.
    /// - Returns: bytes written to `target`, never more than it holds.
    /// - Throws: ``CompressionError/corrupt(format:detail:)``, also for a block that decodes to more than `target`.
    public func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(CompressionError) -> Int {
        switch state {
        case .gzip(let handle):
            var count = 0
            let result = libdeflate_zlib_decompress(
                handle, source.baseAddress, source.count, target.baseAddress, target.count, &count)
            guard result == LIBDEFLATE_SUCCESS else { throw corrupt("libdeflate result \(result.rawValue)") }
            return count
        case .zstd(let handle):
            let result = ZSTD_decompressDCtx(
                handle, target.baseAddress, target.count, source.baseAddress, source.count)
            guard ZSTD_isError(result) == 0 else { throw corrupt(String(cString: ZSTD_getErrorName(result))) }
            return result
        case .lz4:
            let result = LZ4_decompress_safe(
                source.baseAddress?.assumingMemoryBound(to: CChar.self),
                target.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(source.count), Int32(target.count))
            guard result >= 0 else { throw corrupt("result \(result)") }
            return Int(result)
        case .lzo:
            var count = lzo_uint(target.count)
            let result = lzo1x_decompress_safe(
                source.baseAddress?.assumingMemoryBound(to: UInt8.self), lzo_uint(source.count),
                target.baseAddress?.assumingMemoryBound(to: UInt8.self), &count, nil)
            guard result == 0 else { throw corrupt("result \(result)") }
            return Int(count)
        case .xz: return try decompressXZ(source, into: target)
        case .lzma: return try decompressLZMA(source, into: target)
        }
    }

    private func decompressXZ(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(CompressionError) -> Int {
        var limit = Self.memoryLimit
        var read = 0
        var written = 0
        let result = lzma_stream_buffer_decode(
            &limit, 0, nil, source.baseAddress?.assumingMemoryBound(to: UInt8.self), &read, source.count,
            target.baseAddress?.assumingMemoryBound(to: UInt8.self), &written, target.count)
        guard result == LZMA_OK else { throw corrupt("result \(result.rawValue)") }
        return written
    }

    private func decompressLZMA(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(CompressionError) -> Int {
        var stream = lzma_stream()
        guard lzma_alone_decoder(&stream, Self.memoryLimit) == LZMA_OK else { throw .outOfMemory }
        defer { lzma_end(&stream) }
        stream.next_in = source.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_in = source.count
        stream.next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_out = target.count
        let result = lzma_code(&stream, LZMA_FINISH)
        let complete = result == LZMA_STREAM_END || result == LZMA_OK && stream.avail_in == 0
        guard complete else { throw corrupt("result \(result.rawValue)") }
        return target.count - stream.avail_out
    }

    private func corrupt(_ detail: String) -> CompressionError { .corrupt(format: compressor.name, detail: detail) }
}
