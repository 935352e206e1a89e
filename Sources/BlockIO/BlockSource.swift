import Glibc
import Linux

/// Anything that an image can be read from: a file, a partition of a file, a decrypted volume.
///
/// All positions are bytes from the start of the source. Implementations may be called from several threads at once.
public protocol BlockSource: AnyObject, Sendable {
    /// Bytes that can be read.
    var size: UInt64 { get }
    /// Where the bytes come from, for messages: a path or an address.
    var name: String { get }
    /// Fills the whole of `buffer` from `offset`.
    /// - Throws: ``BlockError/outOfBounds`` where the source ends before, or the system's error.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockError)
    /// The open file that the bytes stand in as they are, and where in it position 0 is; nil for others.
    var filePosition: (descriptor: CInt, offset: UInt64)? { get }
}

extension BlockSource {
    /// Nothing, for a source that is no plain range of a file.
    public var filePosition: (descriptor: CInt, offset: UInt64)? { nil }
}

/// Why bytes could not be had from a ``BlockSource``.
public enum BlockError: Error, CustomStringConvertible {
    /// The source ends before `offset + needed`.
    case outOfBounds(name: String, offset: UInt64, needed: Int, size: UInt64)
    case system(SystemError)
    /// What the bytes are made of cannot be read.
    case unreadable(name: String, why: String)

    /// One sentence that names the source.
    public var description: String {
        switch self {
        case .unreadable(let name, let why): "\(name): \(why)"
        case .outOfBounds(let name, let offset, let needed, let size):
            "\(name) is cut short: \(needed) bytes at offset \(offset) were expected, it has \(size) bytes"
        case .system(let error): "\(error)"
        }
    }
}

extension BlockSource {
    /// Reads `count` bytes into a new array.
    public func bytes(at offset: UInt64, count: Int) throws(BlockError) -> [UInt8] {
        guard count >= 0, offset <= size, UInt64(count) <= size - offset else {
            throw .outOfBounds(name: name, offset: offset, needed: count, size: size)
        }
        var failure: BlockError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(BlockError) {
                try read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
                filled = count
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }
}

extension BlockSource {
    /// Reads a range in order.
    /// - Parameter body: is lent pieces of 256 KiB at most, which fit into the processor's second cache: what is read and hashed
    ///   goes to memory once.
    public func read<E: Error>(_ range: Range<UInt64>, _ body: (UnsafeRawBufferPointer) throws(E) -> Void) throws {
        let size = Int(min(UInt64(256 << 10), UInt64(range.count)))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, size), alignment: 4096)
        defer { buffer.deallocate() }
        var position = range.lowerBound
        while position < range.upperBound {
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(min(UInt64(size), range.upperBound - position))])
            try read(into: piece, at: position)
            try body(UnsafeRawBufferPointer(piece))
            position += UInt64(piece.count)
        }
    }
}

/// A file, read with pread(2).
public final class FileSource: BlockSource {
    /// Bytes, when the file was opened.
    public let size: UInt64
    /// The path, for messages.
    public let name: String
    /// The open file.
    public let descriptor: SharedDescriptor
    /// The file from its start.
    public var filePosition: (descriptor: CInt, offset: UInt64)? { (descriptor.rawValue, 0) }

    /// Takes an open regular file or block device.
    public init(_ descriptor: SharedDescriptor, name: String) throws(SystemError) {
        let status = try Files.status(descriptor.rawValue, name: name)
        self.descriptor = descriptor
        self.name = name
        if status.st_mode & S_IFMT == S_IFBLK {
            size = UInt64(max(0, lseek(descriptor.rawValue, 0, SEEK_END)))
        } else {
            size = UInt64(status.st_size)
        }
    }

    /// Takes an open file that stays the caller's.
    public convenience init(copyOf descriptor: CInt, name: String) throws(SystemError) {
        try self.init(SharedDescriptor(OwnedDescriptor(dup(descriptor))), name: name)
    }

    /// Opens a regular file for reading. A FIFO or a directory is refused, never waited for.
    public convenience init(path: String) throws(SystemError) {
        let file = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        let kind = try Files.status(file.rawValue, name: path).st_mode & S_IFMT
        guard kind == S_IFREG || kind == S_IFBLK else {
            throw SystemError("open \(path)", errno: kind == S_IFDIR ? EISDIR : EINVAL)
        }
        try self.init(SharedDescriptor(file), name: path)
    }

    /// Reads with pread(2).
    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockError) {
        var done = 0
        while done < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count = retryingOnInterrupt { pread(descriptor.rawValue, rest.baseAddress, rest.count, off_t(offset) + off_t(done)) }
            if count < 0 { throw .system(.last("read \(name)")) }
            if count == 0 {
                throw .outOfBounds(name: name, offset: offset, needed: buffer.count, size: size)
            }
            done += count
        }
    }
}

/// A window of another source, such as a partition of a SIF.
public final class SliceSource: BlockSource {
    /// The source that this is a part of.
    public let base: any BlockSource
    /// Where the window starts in ``base``, bytes.
    public let offset: UInt64
    /// Bytes of the part.
    public let size: UInt64
    /// The name of the whole, for messages.
    public var name: String { base.name }
    /// Where the part is in its file, where the whole is one.
    public var filePosition: (descriptor: CInt, offset: UInt64)? {
        base.filePosition.map { ($0.descriptor, $0.offset + offset) }
    }

    /// - Throws: ``BlockError/outOfBounds`` where the window does not lie within `base`.
    public init(_ base: any BlockSource, offset: UInt64, size: UInt64) throws(BlockError) {
        guard offset <= base.size, size <= base.size - offset else {
            throw .outOfBounds(name: base.name, offset: offset, needed: Int(clamping: size), size: base.size)
        }
        self.base = base
        self.offset = offset
        self.size = size
    }

    /// Reads at a position within the part.
    public func read(into buffer: UnsafeMutableRawBufferPointer, at position: UInt64) throws(BlockError) {
        guard position <= size, UInt64(buffer.count) <= size - position else {
            throw .outOfBounds(name: name, offset: position, needed: buffer.count, size: size)
        }
        try base.read(into: buffer, at: offset + position)
    }
}

/// Bytes in memory.
public final class MemorySource: BlockSource {
    private let storage: [UInt8]
    /// For messages.
    public let name: String
    /// Bytes in memory.
    public var size: UInt64 { UInt64(storage.count) }

    /// - Parameter name: for messages.
    public init(_ bytes: [UInt8], name: String = "memory") {
        storage = bytes
        self.name = name
    }

    /// Copies from memory.
    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockError) {
        guard offset <= size, UInt64(buffer.count) <= size - offset else {
            throw .outOfBounds(name: name, offset: offset, needed: buffer.count, size: size)
        }
        storage.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[Int(offset)..<Int(offset) + buffer.count])) }
    }
}
