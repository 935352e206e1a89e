import CDeflate
import CLZ4
import CLZMA
import CZstd

/// Compresses whole blocks of one format. Holds the library's working memory: one object a thread.
public final class BlockCompressor {
    private enum State {
        case gzip(OpaquePointer)
        case zstd(OpaquePointer)
        case lz4(level: Int32)
        case xz(preset: UInt32, dictionarySize: UInt32)
    }

    private let state: State

    /// - Parameter blockSize: bytes of the largest block; the dictionary of xz.
    /// - Throws: ``CompressionError/unsupported(_:)`` for lzo and lzma, which are only read.
    public init(_ compressor: Compressor, level: Int, blockSize: Int) throws(CompressionError) {
        switch compressor {
        case .gzip:
            guard let handle = libdeflate_alloc_compressor(Int32(level)) else { throw .outOfMemory }
            state = .gzip(handle)
        case .zstd:
            guard let handle = ZSTD_createCCtx() else { throw .outOfMemory }
            ZSTD_CCtx_setParameter(handle, ZSTD_c_compressionLevel, Int32(level))
            state = .zstd(handle)
        case .lz4: state = .lz4(level: Int32(level))
        case .xz: state = .xz(preset: UInt32(level), dictionarySize: UInt32(max(8192, blockSize)))
        case .lzo, .lzma: throw .unsupported("writing \(compressor.name)")
        }
    }

    deinit {
        switch state {
        case .gzip(let handle): libdeflate_free_compressor(handle)
        case .zstd(let handle): ZSTD_freeCCtx(handle)
        case .lz4, .xz: break
        }
    }

    /// Compresses `source` into `target`.
    /// - Returns: bytes written, or nil where the result does not fit into `target`. Give a target one byte smaller
    ///   than the source to learn whether compression gains anything.
    public func compress(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int? {
        let count: Int
        switch state {
        case .gzip(let handle):
            count = libdeflate_zlib_compress(handle, source.baseAddress, source.count, target.baseAddress, target.count)
        case .zstd(let handle):
            let result = ZSTD_compress2(handle, target.baseAddress, target.count, source.baseAddress, source.count)
            count = ZSTD_isError(result) != 0 ? 0 : result
        case .lz4(let level):
            let from = source.baseAddress?.assumingMemoryBound(to: CChar.self)
            let to = target.baseAddress?.assumingMemoryBound(to: CChar.self)
            count =
                level <= 1
                ? Int(LZ4_compress_default(from, to, Int32(source.count), Int32(target.count)))
                : Int(LZ4_compress_HC(from, to, Int32(source.count), Int32(target.count), level))
        case .xz(let preset, let dictionarySize):
            count = Self.compressXZ(source, into: target, preset: preset, dictionarySize: dictionarySize)
        }
        return count > 0 ? count : nil
    }

    /// One .xz stream with a CRC32 check, the only one that the kernel's decoder takes.
    private static func compressXZ(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, preset: UInt32,
        dictionarySize: UInt32
    ) -> Int {
        var options = lzma_options_lzma()
        guard lzma_lzma_preset(&options, preset) == 0 else { return 0 }
        options.dict_size = dictionarySize
        return withUnsafeMutablePointer(to: &options) { options in
            var filters = [
                lzma_filter(id: 0x21, options: UnsafeMutableRawPointer(options)),
                lzma_filter(id: UInt64.max, options: nil),
            ]
            var written = 0
            let result = lzma_stream_buffer_encode(
                &filters, LZMA_CHECK_CRC32, nil, source.baseAddress?.assumingMemoryBound(to: UInt8.self), source.count,
                target.baseAddress?.assumingMemoryBound(to: UInt8.self), &written, target.count)
            return result == LZMA_OK ? written : 0
        }
    }
}
