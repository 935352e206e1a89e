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
    private var pending: [UInt8] = []
    /// Where ``pending`` starts, bytes from `base`.
    private var start: UInt64
    /// What is before this position was given to the disk.
    private var begun: UInt64

    /// - Parameters:
    ///   - base: where position 0 is in the file, bytes.
    ///   - position: where the first append goes.
    init(_ descriptor: CInt, base: UInt64, position: UInt64, name: String) {
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

    /// Appends stored bytes of an image; in the kernel, where it comes from a file.
    mutating func append(_ count: UInt64, at position: UInt64, from image: SquashFSImage) throws(SquashFSError) {
        try flush()
        var done = try copyInKernel(count, at: position, from: image)
        if done == count { return }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(min(count - done, UInt64(Self.capacity))), alignment: 4096)
        defer { buffer.deallocate() }
        while done < count {
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(min(UInt64(buffer.count), count - done))])
            try image.storedBytes(at: position + done, into: part)
            do throws(SystemError) {
                try Files.writeAll(UnsafeRawBufferPointer(part), to: descriptor, at: base + start, name: name)
            } catch { throw .system(error) }
            start += UInt64(part.count)
            done += UInt64(part.count)
        }
    }

    /// copy_file_range(2), which shares the blocks where the file system can.
    /// - Returns: bytes that are copied.
    private mutating func copyInKernel(_ count: UInt64, at position: UInt64, from image: SquashFSImage) throws(SquashFSError) -> UInt64 {
        try image.checkStored(at: position, count: count)
        guard let (file, offset) = image.source.filePosition else { return 0 }
        var done: UInt64 = 0
        while done < count {
            let copied = Files.copyRange(
                from: file, at: offset + position + done, to: descriptor, at: base + start, count: count - done)
            // Not all pairs of file systems can; then it is copied by hand, which also says what is wrong.
            guard copied > 0 else { return done }
            done += UInt64(copied)
            start += UInt64(copied)
        }
        return done
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
