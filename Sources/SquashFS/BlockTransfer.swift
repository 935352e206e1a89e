import Glibc
import Linux

/// Compressed blocks of other images that shall be in a new one, copied after everything else is written.
///
/// Where each goes is known before it is copied. So the new image can be hashed in order, and given to the disk, while its blocks
/// arrive, although its first bytes, the superblock, are known last.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
public final class BlockTransfer: @unchecked Sendable {
    /// Stored bytes of an image, and their place in the new file.
    private struct Piece {
        var image: SquashFSImage
        /// Bytes from the image's superblock.
        var source: UInt64
        var count: UInt64
        /// Bytes from the start of the file.
        var target: UInt64
    }

    /// Bytes that are copied before others are told.
    private static let portion: UInt64 = 32 << 20

    private let lock = Monitor()
    private var pieces: [Piece] = []
    /// All bytes of the file before it are there.
    private var position: UInt64 = 0
    private var isDone = false
    private var failure: SquashFSError?
    private var thread: WorkerThread?

    /// Nothing is to be copied yet.
    public init() {}

    /// - Parameters:
    ///   - source: bytes from the image's superblock.
    ///   - target: bytes from the start of the new file; behind that of all earlier pieces.
    func add(_ count: UInt64, at source: UInt64, from image: SquashFSImage, to target: UInt64) {
        lock.locked { pieces.append(Piece(image: image, source: source, count: count, target: target)) }
    }

    /// Begins to copy. Everything else has been written.
    /// - Parameters:
    ///   - descriptor: of the new file; it stays the caller's.
    ///   - name: for messages.
    /// - Throws: where there can be no more threads.
    public func start(_ descriptor: CInt, name: String) throws(SystemError) {
        thread = try WorkerThread { [self] in
            do throws(SquashFSError) { try copy(to: descriptor, name: name) } catch { lock.locked { failure = error } }
            lock.locked {
                isDone = true
                lock.wakeAll()
            }
        }
    }

    private func copy(to descriptor: CInt, name: String) throws(SquashFSError) {
        let pieces = lock.locked { self.pieces }
        for piece in pieces {
            var done: UInt64 = 0
            while done < piece.count {
                let count = min(Self.portion, piece.count - done)
                try piece.image.copyStored(count, at: piece.source + done, to: descriptor, at: piece.target + done, name: name)
                done += count
                lock.locked {
                    position = piece.target + done
                    lock.wakeAll()
                }
            }
        }
    }

    /// Waits until all bytes of the file before a position are there.
    /// - Throws: what has kept them from being copied.
    public func wait(until end: UInt64) throws(SquashFSError) {
        try lock.locked { () throws(SquashFSError) in
            while !isDone && position < end { lock.wait() }
            if let failure { throw failure }
        }
    }

    /// Waits until all has been copied.
    public func finish() throws(SquashFSError) {
        thread?.join()
        thread = nil
        if let failure = lock.locked({ failure }) { throw failure }
    }

    /// Calls `body` with what has arrived, as long as more arrives.
    public func follow(_ body: (Range<UInt64>) -> Void) {
        var begun: UInt64 = 0
        while true {
            let (end, isLast) = lock.locked {
                while !isDone && position < begun + Self.portion { lock.wait() }
                return (max(position, begun), isDone)
            }
            if end > begun { body(begun..<end) }
            begun = end
            if isLast { return }
        }
    }
}

extension SquashFSImage {
    /// Copies stored bytes into a file; in the kernel where they come from a file (copy_file_range(2), which shares the blocks where
    /// the file system can).
    func copyStored(
        _ count: UInt64, at position: UInt64, to target: CInt, at targetPosition: UInt64, name: String
    ) throws(SquashFSError) {
        try checkStored(at: position, count: count)
        var done: UInt64 = 0
        if let (file, offset) = source.filePosition {
            while done < count {
                let copied = Files.copyRange(
                    from: file, at: offset + position + done, to: target, at: targetPosition + done, count: count - done)
                // Not all pairs of file systems can; then it is copied by hand, which also says what is wrong.
                guard copied > 0 else { break }
                done += UInt64(copied)
            }
        }
        if done == count { return }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(min(count - done, 1 << 20)), alignment: 4096)
        defer { buffer.deallocate() }
        while done < count {
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(min(UInt64(buffer.count), count - done))])
            try storedBytes(at: position + done, into: part)
            do throws(SystemError) {
                try Files.writeAll(UnsafeRawBufferPointer(part), to: target, at: targetPosition + done, name: name)
            } catch { throw .system(error) }
            done += UInt64(part.count)
        }
    }
}
