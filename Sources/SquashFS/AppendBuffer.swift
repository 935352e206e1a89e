import Glibc
import Linux

/// Collects small appends to a file into large writes, and can take back the newest of them.
struct AppendBuffer {
    private static let capacity = 1 << 20
    /// Bytes that the disk is given at a time. The file gets its name when all of it is there, so the disk had better begin early.
    private static let portion: UInt64 = 8 << 20
    private let descriptor: CInt
    private let base: UInt64
    private let name: String
    private let transfer: BlockTransfer?
    private var pending: [UInt8] = []
    /// Where ``pending`` starts, bytes from `base`.
    private var start: UInt64
    /// What is before this position was given to the disk.
    private var begun: UInt64

    /// - Parameters:
    ///   - base: where position 0 is in the file, bytes.
    ///   - position: where the first append goes.
    ///   - transfer: copies blocks of other images later.
    init(_ descriptor: CInt, base: UInt64, position: UInt64, name: String, transfer: BlockTransfer? = nil) {
        self.transfer = transfer
        self.descriptor = descriptor
        self.base = base
        self.name = name
        start = position
        begun = position
        pending.reserveCapacity(Self.capacity)
    }

    /// Where the next byte goes.
    var position: UInt64 { start + UInt64(pending.count) }

    mutating func append(_ bytes: UnsafeRawBufferPointer) throws(SquashFSError) {
        if pending.count + bytes.count > Self.capacity { try flush() }
        pending.append(contentsOf: bytes)
    }

    /// Appends stored bytes of an image, at once or with the ``BlockTransfer``.
    mutating func append(_ count: UInt64, at position: UInt64, from image: SquashFSImage) throws(SquashFSError) {
        try flush()
        if let transfer {
            try image.checkStored(at: position, count: count)
            transfer.add(count, at: position, from: image, to: base + start)
        } else {
            try image.copyStored(count, at: position, to: descriptor, at: base + start, name: name)
        }
        start += count
        if transfer != nil { begun = start }
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
        if start >= begun + Self.portion {
            Files.beginWriting(descriptor, at: base + begun, count: start - begun)
            begun = start
        }
    }
}
