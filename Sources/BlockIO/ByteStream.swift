import Glibc
import Linux

/// Bytes that come one after the other, once: a file's content, a decompressed layer.
public protocol ByteStream: AnyObject {
    /// Reads some bytes, at least one, into `buffer`.
    /// - Returns: how many; 0 at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int
}

/// A stream that can pass over bytes without reading them.
public protocol SkippingStream: ByteStream {
    /// Passes over `count` bytes.
    /// - Returns: how many it passed over; 0 where it has to be read.
    func skip(_ count: Int64) -> Int64
}

extension ByteStream {
    /// Fills `buffer` unless the stream ends before.
    /// - Returns: bytes filled.
    public func fill(_ buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        var done = 0
        while done < buffer.count {
            let count = try read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[done...]))
            if count == 0 { break }
            done += count
        }
        return done
    }
}

/// A file read from its start to its end.
public final class FileStream: SkippingStream {
    fileprivate let descriptor: OwnedDescriptor
    private let name: String

    /// - Parameter name: for messages.
    public init(_ descriptor: consuming OwnedDescriptor, name: String) {
        self.descriptor = descriptor
        self.name = name
    }

    /// Opens a file to be read from its start.
    public convenience init(path: String) throws(SystemError) {
        self.init(try OwnedDescriptor.open(path), name: path)
    }

    /// Reads with read(2).
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        let raw = descriptor.rawValue
        let count = retryingOnInterrupt { Glibc.read(raw, buffer.baseAddress, buffer.count) }
        if count < 0 { throw SystemError.last("read \(name)") }
        return count
    }
}

extension FileStream {
    /// Passes over bytes by lseek(2), where the file can be sought.
    /// - Returns: bytes passed over.
    public func skip(_ count: Int64) -> Int64 {
        let raw = descriptor.rawValue
        let here = lseek(raw, 0, SEEK_CUR)
        // A jump behind the end would hide that the file is cut short.
        var status = stat()
        guard here >= 0, fstat(raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG, here + off_t(count) <= status.st_size,
            lseek(raw, off_t(count), SEEK_CUR) >= 0
        else { return 0 }
        return count
    }
}

/// A part of a ``BlockSource`` read in order.
public final class SourceStream: ByteStream {
    private let source: any BlockSource
    private var position: UInt64
    private let end: UInt64

    /// - Parameter offset: where the stream begins in the source, bytes.
    public init(_ source: any BlockSource, from offset: UInt64 = 0) {
        self.source = source
        position = offset
        end = source.size
    }

    /// Reads the next bytes of the source.
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        let count = Int(min(UInt64(buffer.count), end - min(position, end)))
        if count == 0 { return 0 }
        try source.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]), at: position)
        position += UInt64(count)
        return count
    }
}

/// Bytes in memory read in order.
public final class MemoryStream: ByteStream {
    private let bytes: [UInt8]
    private var position = 0

    /// A stream of bytes in memory.
    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Copies the next bytes.
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        let count = min(buffer.count, bytes.count - position)
        bytes.withUnsafeBytes {
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[position..<position + count]))
        }
        position += count
        return count
    }
}
