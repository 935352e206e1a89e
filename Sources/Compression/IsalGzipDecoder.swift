import CIsal
import Glibc

/// The gzip decoder of the Intel storage library, several times as fast as zlib's.
///
/// Distributions have it only as a shared library, so it is opened where it is installed and done without where not.
final class IsalGzipDecoder: StreamDecoder {
    private struct Library: Sendable {
        let initialize: @convention(c) (UnsafeMutablePointer<inflate_state>?) -> Void
        let reset: @convention(c) (UnsafeMutablePointer<inflate_state>?) -> Void
        let inflate: @convention(c) (UnsafeMutablePointer<inflate_state>?) -> CInt
    }

    private static let library: Library? = {
        guard let handle = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL), let initialize = dlsym(handle, "isal_inflate_init"),
            let reset = dlsym(handle, "isal_inflate_reset"), let inflate = dlsym(handle, "isal_inflate")
        else { return nil }
        return Library(
            initialize: unsafeBitCast(initialize, to: (@convention(c) (UnsafeMutablePointer<inflate_state>?) -> Void).self),
            reset: unsafeBitCast(reset, to: (@convention(c) (UnsafeMutablePointer<inflate_state>?) -> Void).self),
            inflate: unsafeBitCast(inflate, to: (@convention(c) (UnsafeMutablePointer<inflate_state>?) -> CInt).self))
    }()

    private let library: Library
    private let state = UnsafeMutablePointer<inflate_state>.allocate(capacity: 1)
    private(set) var isComplete = true
    private var memberEnded = false

    /// Nil where the library is not installed.
    init?() {
        guard let library = Self.library else { return nil }
        self.library = library
        start()
    }

    deinit { state.deallocate() }

    private func start() {
        library.initialize(state)
        state.pointee.crc_flag = UInt32(ISAL_GZIP)
    }

    func decode(
        _ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
    ) throws(CompressionError) -> DecodingStep {
        let pending = !isComplete && !memberEnded
        guard let base = input.baseAddress, input.count > 0 || pending else { return DecodingStep(consumed: 0, produced: 0) }
        if memberEnded {
            // Zero padding may follow a member, or another member.
            if base.load(as: UInt8.self) == 0 { return DecodingStep(consumed: input.count, produced: 0) }
            start()
            memberEnded = false
        }
        isComplete = false
        state.pointee.next_in = UnsafeMutablePointer(mutating: base.assumingMemoryBound(to: UInt8.self))
        state.pointee.avail_in = UInt32(clamping: input.count)
        state.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
        state.pointee.avail_out = UInt32(clamping: output.count)
        let result = library.inflate(state)
        guard result >= 0 else { throw .corrupt(format: "gzip", detail: Self.reason(result)) }
        if state.pointee.block_state == ISAL_BLOCK_FINISH {
            isComplete = true
            memberEnded = true
        }
        return DecodingStep(
            consumed: input.count - Int(state.pointee.avail_in), produced: output.count - Int(state.pointee.avail_out))
    }

    private static func reason(_ result: CInt) -> String {
        switch result {
        case ISAL_INCORRECT_CHECKSUM: "incorrect data check"
        case ISAL_INVALID_WRAPPER, ISAL_UNSUPPORTED_METHOD: "incorrect header"
        default: "invalid block (\(result))"
        }
    }
}
