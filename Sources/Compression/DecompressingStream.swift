import BlockIO
import CBzip2
import CLZMA
import CZlib
import CZstd

/// The format of a compressed stream, told by its first bytes.
public enum StreamFormat: String, Sendable {
    case plain, gzip, zstd, xz, bzip2

    /// Bytes that ``init(firstBytes:)`` wants to see.
    public static let probeLength = 6

    /// Recognizes a format by its magic number.
    /// - Parameter bytes: the first 6 at least, where there are so many.
    public init(firstBytes bytes: [UInt8]) {
        if bytes.starts(with: [0x1f, 0x8b]) {
            self = .gzip
        } else if bytes.starts(with: [0x28, 0xb5, 0x2f, 0xfd]) {
            self = .zstd
        } else if bytes.count >= 4, bytes[0] & 0xf0 == 0x50, bytes[1...3].elementsEqual([0x2a, 0x4d, 0x18]) {
            self = .zstd
        } else if bytes.starts(with: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) {
            self = .xz
        } else if bytes.starts(with: [0x42, 0x5a, 0x68]) {
            self = .bzip2
        } else {
            self = .plain
        }
    }
}

/// Plain bytes of a compressed stream: all members and frames, one after the other.
public final class DecompressingStream: ByteStream {
    /// How the bytes below are compressed.
    public let format: StreamFormat
    private let input: any ByteStream
    private let decoder: any StreamDecoder
    private let buffer: UnsafeMutableRawBufferPointer
    private var available = 0
    private var position = 0
    private var inputEnded = false

    /// Reads the first bytes of `input` to learn its format; bytes in no known format pass through.
    public init(_ input: any ByteStream) throws {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 16)
        do {
            let probe = UnsafeMutableRawBufferPointer(rebasing: buffer[..<StreamFormat.probeLength])
            available = try input.fill(probe)
            format = StreamFormat(firstBytes: [UInt8](probe[..<available]))
            decoder =
                switch format {
                case .plain: PlainDecoder()
                case .gzip: try IsalGzipDecoder() ?? GzipDecoder()
                case .zstd: try ZstdDecoder()
                case .xz: try XZDecoder()
                case .bzip2: try Bzip2Decoder()
                }
        } catch {
            buffer.deallocate()
            throw error
        }
        self.buffer = buffer
        self.input = input
    }

    deinit { buffer.deallocate() }

    /// Decompresses the next bytes.
    public func read(into target: UnsafeMutableRawBufferPointer) throws -> Int {
        while true {
            if position == available && !inputEnded {
                position = 0
                available = try input.read(into: buffer)
                inputEnded = available == 0
            }
            let step = try decoder.decode(
                UnsafeRawBufferPointer(rebasing: buffer[position..<available]), into: target)
            position += step.consumed
            if step.produced > 0 { return step.produced }
            if inputEnded && position == available {
                guard decoder.isComplete else {
                    throw CompressionError.corrupt(format: format.rawValue, detail: "the data is cut short")
                }
                return 0
            }
            if step.consumed == 0 && inputEnded {
                throw CompressionError.corrupt(format: format.rawValue, detail: "the data is cut short")
            }
        }
    }
}

/// One step of decoding: how much was read and written.
struct DecodingStep {
    var consumed: Int
    var produced: Int
}

protocol StreamDecoder: AnyObject {
    /// Decodes as much as fits. A step that makes no progress asks for more input.
    func decode(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(CompressionError) -> DecodingStep
    /// Whether the input may end here.
    var isComplete: Bool { get }
}

final class PlainDecoder: StreamDecoder {
    var isComplete: Bool { true }
    func decode(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> DecodingStep {
        let count = min(input.count, output.count)
        output.copyMemory(from: UnsafeRawBufferPointer(rebasing: input[..<count]))
        return DecodingStep(consumed: count, produced: count)
    }
}

final class GzipDecoder: StreamDecoder {
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    private(set) var isComplete = true
    /// Whether one member has ended: zero padding may follow it.
    private var memberEnded = false

    init() throws(CompressionError) {
        stream.initialize(to: z_stream())
        guard inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
            throw .outOfMemory
        }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    func decode(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) throws(CompressionError) -> DecodingStep {
        guard let base = input.baseAddress, input.count > 0 else { return DecodingStep(consumed: 0, produced: 0) }
        if memberEnded && base.load(as: UInt8.self) == 0 {
            return DecodingStep(consumed: input.count, produced: 0)
        }
        isComplete = false
        stream.pointee.next_in = UnsafeMutablePointer(mutating: base.assumingMemoryBound(to: UInt8.self))
        stream.pointee.avail_in = UInt32(clamping: input.count)
        stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = UInt32(clamping: output.count)
        let result = inflate(stream, Z_NO_FLUSH)
        let step = DecodingStep(
            consumed: input.count - Int(stream.pointee.avail_in), produced: output.count - Int(stream.pointee.avail_out))
        switch result {
        case Z_OK, Z_BUF_ERROR: break
        case Z_STREAM_END:
            isComplete = true
            memberEnded = true
            inflateReset(stream)
        default:
            let detail = stream.pointee.msg.map { String(cString: $0) } ?? "zlib result \(result)"
            throw .corrupt(format: "gzip", detail: detail)
        }
        return step
    }
}

final class ZstdDecoder: StreamDecoder {
    private let stream: OpaquePointer
    private(set) var isComplete = true

    init() throws(CompressionError) {
        guard let stream = ZSTD_createDStream() else { throw .outOfMemory }
        self.stream = stream
        // A hostile frame may ask for a window of gigabytes; layers are written with at most 128 MiB.
        ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, 27)
    }

    deinit { ZSTD_freeDStream(stream) }

    func decode(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) throws(CompressionError) -> DecodingStep {
        var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
        var target = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
        let result = ZSTD_decompressStream(stream, &target, &source)
        guard ZSTD_isError(result) == 0 else {
            throw .corrupt(format: "zstd", detail: String(cString: ZSTD_getErrorName(result)))
        }
        if source.pos > 0 || target.pos > 0 { isComplete = result == 0 }
        return DecodingStep(consumed: source.pos, produced: target.pos)
    }
}

final class XZDecoder: StreamDecoder {
    private var stream = lzma_stream()
    private(set) var isComplete = true

    init() throws(CompressionError) {
        guard lzma_stream_decoder(&stream, 128 << 20, 0x08 /* LZMA_CONCATENATED */) == LZMA_OK else { throw .outOfMemory }
    }

    deinit { lzma_end(&stream) }

    func decode(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) throws(CompressionError) -> DecodingStep {
        stream.next_in = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_in = input.count
        stream.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.avail_out = output.count
        let result = lzma_code(&stream, input.count == 0 ? LZMA_FINISH : LZMA_RUN)
        switch result {
        case LZMA_OK: isComplete = false
        case LZMA_STREAM_END: isComplete = true
        case LZMA_BUF_ERROR: break
        default: throw .corrupt(format: "xz", detail: "liblzma result \(result.rawValue)")
        }
        return DecodingStep(consumed: input.count - stream.avail_in, produced: output.count - stream.avail_out)
    }
}

final class Bzip2Decoder: StreamDecoder {
    private let stream = UnsafeMutablePointer<bz_stream>.allocate(capacity: 1)
    private(set) var isComplete = true

    init() throws(CompressionError) {
        stream.initialize(to: bz_stream())
        guard BZ2_bzDecompressInit(stream, 0, 0) == BZ_OK else { throw .outOfMemory }
    }

    deinit {
        BZ2_bzDecompressEnd(stream)
        stream.deallocate()
    }

    func decode(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) throws(CompressionError) -> DecodingStep {
        guard let base = input.baseAddress, input.count > 0 else { return DecodingStep(consumed: 0, produced: 0) }
        isComplete = false
        stream.pointee.next_in = UnsafeMutablePointer(mutating: base.assumingMemoryBound(to: CChar.self))
        stream.pointee.avail_in = UInt32(clamping: input.count)
        stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: CChar.self)
        stream.pointee.avail_out = UInt32(clamping: output.count)
        let result = BZ2_bzDecompress(stream)
        let step = DecodingStep(
            consumed: input.count - Int(stream.pointee.avail_in), produced: output.count - Int(stream.pointee.avail_out))
        switch result {
        case BZ_OK: break
        case BZ_STREAM_END:
            isComplete = true
            BZ2_bzDecompressEnd(stream)
            stream.initialize(to: bz_stream())
            guard BZ2_bzDecompressInit(stream, 0, 0) == BZ_OK else { throw .outOfMemory }
        default: throw .corrupt(format: "bzip2", detail: "result \(result)")
        }
        return step
    }
}
