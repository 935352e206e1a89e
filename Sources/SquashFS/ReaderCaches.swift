import BlockIO
import Compression
import Linux

/// Told when a cache lacks something, and its reader will have to wait for the disk or for a decompressor.
///
/// `@unchecked Sendable`: set once, before there is a second thread.
final class MissHook: @unchecked Sendable {
    var willWait: (@Sendable () -> Void)?
}

/// A decoded data or fragment block.
///
/// `@unchecked Sendable`: written by the thread that decodes it, before anybody else can see it.
final class DecodedBlock: @unchecked Sendable {
    let storage: UnsafeMutableRawBufferPointer
    var count = 0
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: storage[..<count]) }

    init(capacity: Int) { storage = .allocate(byteCount: capacity, alignment: 64) }
    deinit { storage.deallocate() }
}

/// Decoded blocks by their position, a bounded number: the one used longest ago goes first. Of several threads that want
/// the same block, one decodes it and the others wait for it.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
final class BlockCache: @unchecked Sendable {
    private struct Entry {
        var block: DecodedBlock
        var lastUse: UInt64
        var isReady: Bool
    }

    private let lock = Monitor()
    private let capacity: Int
    private let misses: MissHook
    private var entries: [UInt64: Entry] = [:]
    private var clock: UInt64 = 0

    init(capacity: Int, misses: MissHook) {
        self.capacity = capacity
        self.misses = misses
    }

    func contains(_ position: UInt64) -> Bool { lock.locked { entries[position] != nil } }

    /// The block at a position, decoded by `decode` where it is not there yet.
    func block(
        at position: UInt64, capacity blockSize: Int,
        decode: (UnsafeMutableRawBufferPointer) throws(SquashFSError) -> Int
    ) throws(SquashFSError) -> DecodedBlock {
        let (block, isMine) = take(position, blockSize)
        guard isMine else { return block }
        misses.willWait?()
        do throws(SquashFSError) {
            block.count = try decode(block.storage)
            lock.locked {
                if let index = entries.index(forKey: position) { entries.values[index].isReady = true }
                lock.wakeAll()
            }
            return block
        } catch {
            // Those who wait try for themselves, and get the error for themselves.
            lock.locked {
                entries[position] = nil
                lock.wakeAll()
            }
            throw error
        }
    }

    private func take(_ position: UInt64, _ blockSize: Int) -> (DecodedBlock, isMine: Bool) {
        lock.locked {
            while let index = entries.index(forKey: position) {
                if entries.values[index].isReady {
                    clock += 1
                    entries.values[index].lastUse = clock
                    return (entries.values[index].block, false)
                }
                misses.willWait?()
                lock.wait()
            }
            if entries.count >= capacity { removeOldest() }
            clock += 1
            let block = DecodedBlock(capacity: blockSize)
            entries[position] = Entry(block: block, lastUse: clock, isReady: false)
            return (block, true)
        }
    }

    private func removeOldest() {
        var oldest: (key: UInt64, lastUse: UInt64)?
        for (key, entry) in entries where entry.isReady && entry.lastUse < oldest?.lastUse ?? .max { oldest = (key, entry.lastUse) }
        if let oldest { entries[oldest.key] = nil }
    }
}

/// Decompressors that are lent to one thread at a time, each with a buffer for stored bytes.
///
/// `@unchecked Sendable`: the list is behind ``lock``; a lent decoder belongs to its borrower.
final class DecompressorPool: @unchecked Sendable {
    private final class Decoder {
        let decompressor: BlockDecompressor
        var buffer: UnsafeMutableRawBufferPointer
        init(_ compressor: Compressor) throws(CompressionError) {
            decompressor = try BlockDecompressor(compressor)
            buffer = .allocate(byteCount: 128 << 10, alignment: 64)
        }
        deinit { buffer.deallocate() }
    }

    private let lock = Monitor()
    private let compressor: Compressor
    private var idle: [Decoder] = []

    init(_ compressor: Compressor) throws(CompressionError) {
        self.compressor = compressor
        idle = [try Decoder(compressor)]
    }

    /// Reads `count` stored bytes at `position` of `source` and decompresses them.
    func decode(
        from source: any BlockSource, at position: UInt64, count: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(SquashFSError) -> Int {
        let decoder: Decoder
        if let waiting = lock.locked({ idle.popLast() }) {
            decoder = waiting
        } else {
            do { decoder = try Decoder(compressor) } catch { throw .compression(name: source.name, error) }
        }
        defer { lock.locked { idle.append(decoder) } }
        if decoder.buffer.count < count {
            decoder.buffer.deallocate()
            decoder.buffer = .allocate(byteCount: count, alignment: 64)
        }
        let stored = UnsafeMutableRawBufferPointer(rebasing: decoder.buffer[..<count])
        do { try source.read(into: stored, at: position) } catch { throw .block(error) }
        do { return try decoder.decompressor.decompress(UnsafeRawBufferPointer(stored), into: target) } catch {
            throw .corrupt(name: source.name, what: "\(error)", position: position)
        }
    }
}

/// Decoded metadata blocks by their position, a bounded number.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
final class MetadataCache: @unchecked Sendable {
    private static let capacity = 4096
    private let source: any BlockSource
    private let decompressors: DecompressorPool
    private let end: UInt64
    private let misses: MissHook
    private let lock = Monitor()
    private var blocks: [UInt64: MetadataBlock] = [:]

    init(_ source: any BlockSource, decompressors: DecompressorPool, end: UInt64, misses: MissHook) {
        self.misses = misses
        self.source = source
        self.decompressors = decompressors
        self.end = end
    }

    var name: String { source.name }

    /// The block whose header is at `position`.
    func block(at position: UInt64) throws(SquashFSError) -> MetadataBlock {
        if let block = lock.locked({ blocks[position] }) { return block }
        misses.willWait?()
        let block = try load(position)
        lock.locked {
            if blocks.count >= Self.capacity { blocks.removeAll(keepingCapacity: true) }
            blocks[position] = block
        }
        return block
    }

    private func load(_ position: UInt64) throws(SquashFSError) -> MetadataBlock {
        guard position <= end, end - position >= 2 else {
            throw .corrupt(name: name, what: "a metadata block beyond the end", position: position)
        }
        let header: UInt16
        do {
            let bytes = try source.bytes(at: position, count: 2)
            header = UInt16(bytes[0]) | UInt16(bytes[1]) << 8
        } catch { throw .block(error) }
        let count = Int(header & ~MetadataBlock.uncompressedBit)
        guard count > 0, count <= MetadataBlock.capacity, UInt64(count) <= end - position - 2 else {
            throw .corrupt(name: name, what: "a metadata block of \(count) bytes", position: position)
        }
        if header & MetadataBlock.uncompressedBit != 0 {
            do {
                return MetadataBlock(
                    bytes: try source.bytes(at: position + 2, count: count), next: position + 2 + UInt64(count))
            } catch { throw .block(error) }
        }
        var plain = [UInt8](repeating: 0, count: MetadataBlock.capacity)
        var failure: SquashFSError?
        let plainCount = plain.withUnsafeMutableBytes { target in
            do throws(SquashFSError) {
                return try decompressors.decode(from: source, at: position + 2, count: count, into: target)
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        plain.removeLast(plain.count - plainCount)
        return MetadataBlock(bytes: plain, next: position + 2 + UInt64(count))
    }
}

/// Reads records that may cross metadata blocks.
struct MetadataReader {
    private let cache: MetadataCache
    /// Position of the current block's header.
    private(set) var block: UInt64
    private var offset: Int
    private var current: MetadataBlock?

    init(_ cache: MetadataCache, block: UInt64, offset: Int) {
        self.cache = cache
        self.block = block
        self.offset = offset
    }

    mutating func read<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type = T.self) throws(SquashFSError) -> T {
        let size = MemoryLayout<T>.size
        let page = try advance()
        if page.bytes.count - offset >= size {
            defer { offset += size }
            return page.bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
        }
        let bytes = try read(count: size)
        return bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(as: T.self)) }
    }

    /// Reads `count` bytes into the start of a buffer that is large enough.
    mutating func read(count: Int, into target: UnsafeMutableRawBufferPointer) throws(SquashFSError) {
        var done = 0
        while done < count {
            let page = try advance()
            let part = min(count - done, page.bytes.count - offset)
            page.bytes.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(rebasing: target[done..<done + part])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + part]))
            }
            offset += part
            done += part
        }
    }

    mutating func read(count: Int) throws(SquashFSError) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(min(count, MetadataBlock.capacity))
        while out.count < count {
            let page = try advance()
            let part = min(count - out.count, page.bytes.count - offset)
            out += page.bytes[offset..<offset + part]
            offset += part
        }
        return out
    }

    /// The block with at least one byte left at ``offset``.
    private mutating func advance() throws(SquashFSError) -> MetadataBlock {
        if let current, offset < current.bytes.count { return current }
        if let full = current {
            block = full.next
            offset -= full.bytes.count
        }
        let next = try cache.block(at: block)
        guard offset < next.bytes.count else {
            throw .corrupt(name: cache.name, what: "a reference behind the end of a metadata block", position: block)
        }
        current = next
        return next
    }
}
