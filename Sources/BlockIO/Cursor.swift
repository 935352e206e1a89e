/// A read past the end of a structure.
public struct TruncatedError: Error, CustomStringConvertible {
    /// Bytes from the start of the structure.
    public let offset: Int
    /// Bytes that the field takes.
    public let needed: Int

    /// - Parameters:
    ///   - offset: where reading began, bytes.
    ///   - needed: bytes that were to be read there.
    public init(offset: Int, needed: Int) {
        self.offset = offset
        self.needed = needed
    }

    /// Tells where the structure ends too early.
    public var description: String { "structure is cut short: \(needed) bytes needed at offset \(offset)" }
}

/// Where in a little-endian structure the next field starts; every read is bounds-checked.
public struct Cursor {
    /// Bytes into the structure.
    public private(set) var offset: Int

    /// - Parameter offset: where reading begins, bytes.
    public init(at offset: Int = 0) { self.offset = offset }

    /// Reads one little-endian integer.
    @inlinable
    public mutating func read<T: FixedWidthInteger & BitwiseCopyable>(
        _ type: T.Type = T.self, from bytes: RawSpan
    ) throws(TruncatedError) -> T {
        let size = MemoryLayout<T>.size
        let start = try take(size, of: bytes)
        return T(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: start, as: T.self))
    }

    /// Reads `count` bytes.
    public mutating func read(count: Int, from bytes: RawSpan) throws(TruncatedError) -> [UInt8] {
        let start = try take(count, of: bytes)
        return bytes.extracting(start..<start + count).withUnsafeBytes { [UInt8]($0) }
    }

    /// Passes over `count` bytes and returns where they started.
    @usableFromInline
    mutating func take(_ count: Int, of bytes: RawSpan) throws(TruncatedError) -> Int {
        guard count >= 0, offset >= 0, bytes.byteCount - offset >= count else {
            throw TruncatedError(offset: offset, needed: count)
        }
        defer { offset += count }
        return offset
    }

    /// Passes over `count` bytes.
    public mutating func skip(_ count: Int, of bytes: RawSpan) throws(TruncatedError) { _ = try take(count, of: bytes) }
}

extension Array where Element == UInt8 {
    /// Appends an integer in little-endian order.
    @inlinable
    public mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
        Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
    }
}
