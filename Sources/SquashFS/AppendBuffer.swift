import Glibc
import Linux

/// Collects small appends to a file into large writes, and can take back the newest of them.
struct AppendBuffer {
    private static let capacity = 1 << 20
    private let descriptor: CInt
    private let base: UInt64
    private let name: String
    private var pending: [UInt8] = []
    /// Where ``pending`` starts, bytes from `base`.
    private var start: UInt64

    /// - Parameters:
    ///   - base: where position 0 is in the file, bytes.
    ///   - position: where the first append goes.
    init(_ descriptor: CInt, base: UInt64, position: UInt64, name: String) {
        self.descriptor = descriptor
        self.base = base
        self.name = name
        start = position
        pending.reserveCapacity(Self.capacity)
    }

    /// Where the next byte goes.
    var position: UInt64 { start + UInt64(pending.count) }

    mutating func append(_ bytes: UnsafeRawBufferPointer) throws(SquashFSError) {
        if pending.count + bytes.count > Self.capacity { try flush() }
        pending.append(contentsOf: bytes)
    }

    /// Goes back to an earlier position: what was appended since is overwritten by what comes.
    mutating func rewind(to position: UInt64) {
        if position >= start {
            pending.removeLast(pending.count - Int(position - start))
        } else {
            pending.removeAll(keepingCapacity: true)
            start = position
        }
    }

    mutating func flush() throws(SquashFSError) {
        do {
            try pending.span.bytes.withUnsafeBytes { bytes throws(SystemError) in
                try Files.writeAll(bytes, to: descriptor, at: base + start, name: name)
            }
        } catch { throw .system(error) }
        start += UInt64(pending.count)
        pending.removeAll(keepingCapacity: true)
    }
}
