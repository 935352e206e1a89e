import CLinux
import Glibc
import Linux

/// Where the bytes of a file system are kept: as they are in a part of a file, or encrypted.
///
/// Offsets count from the beginning of the file system. Results are errno values, 0 for success. Any number of threads may
/// read and write at once, as long as no two of them mean the same block.
public protocol VolumeStorage: AnyObject, Sendable {
    /// The open file on the host, for questions about the disk that it is on.
    var file: CInt { get }

    /// Reads all of `target`; what is behind the end is zero.
    func read(at offset: UInt64, _ target: UnsafeMutableRawBufferPointer) -> CInt

    /// Writes parts one behind the other. A crash may leave any of the blocks unreadable: they must be unused, or in the
    /// journal.
    func write(_ parts: [iovec], at offset: UInt64) -> CInt

    /// Writes inside of one block that no journal has: after a crash, the old bytes are there or the new ones.
    func writeSafely(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> CInt

    /// Returns when all that was written is on disk.
    func synchronise() -> CInt

    /// Takes room on the host's disk for bytes that will be written.
    func reserve(at offset: UInt64, count: UInt64) -> CInt

    /// Gives room back: whole blocks, which are zero then.
    func punch(at offset: UInt64, count: UInt64) -> CInt

    /// What was kept of the journal's place; nil where it has to be looked up in the file system.
    var journalPlace: JournalPlace? { get }

    /// Keeps the journal's place, where a crash can make the file system unreadable until its journal is replayed.
    func keep(_ place: JournalPlace) -> CInt
}

/// Where a journal is, and what is needed to replay it.
public struct JournalPlace: Equatable, Sendable {
    /// Bytes.
    public var blockSize: Int
    /// Blocks of the file system.
    public var blockCount: UInt64
    /// Runs of neighbours, in the journal's order: the first block's number, and how many there are.
    public var runs: [(first: UInt64, count: UInt64)]

    public init(blockSize: Int, blockCount: UInt64, runs: [(first: UInt64, count: UInt64)]) {
        self.blockSize = blockSize
        self.blockCount = blockCount
        self.runs = runs
    }

    init(blockSize: Int, blockCount: UInt64, blocks: [UInt64]) {
        self.init(blockSize: blockSize, blockCount: blockCount, runs: [])
        for block in blocks {
            if let last = runs.last, last.first + last.count == block {
                runs[runs.count - 1].count += 1
            } else {
                runs.append((block, 1))
            }
        }
    }

    /// The journal's blocks in order.
    var blocks: [UInt64] { runs.flatMap { run in (0..<run.count).map { run.first + $0 } } }

    public static func == (left: JournalPlace, right: JournalPlace) -> Bool {
        left.blockSize == right.blockSize && left.blockCount == right.blockCount
            && left.runs.elementsEqual(right.runs) { $0 == $1 }
    }
}

extension VolumeStorage {
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> CInt {
        write([iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)], at: offset)
    }
}

/// A file system that is a part of a file as it is.
public final class PlainVolumeFile: VolumeStorage {
    public let file: CInt
    /// Where the file system begins in the file, bytes.
    private let start: UInt64
    /// Keeps the file open.
    private let owner: SharedDescriptor?

    /// - Parameter file: open for reading, and for writing where that is wanted; it must stay so.
    public init(_ file: CInt, start: UInt64) {
        self.file = file
        self.start = start
        owner = nil
    }

    public init(_ owner: SharedDescriptor, start: UInt64) {
        file = owner.rawValue
        self.start = start
        self.owner = owner
    }

    public func read(at offset: UInt64, _ target: UnsafeMutableRawBufferPointer) -> CInt {
        var done = 0
        while done < target.count {
            let count = pread(file, target.address + done, target.count - done, Int(start + offset) + done)
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            if count == 0 {
                memset(target.address + done, 0, target.count - done)
                break
            }
            done += count
        }
        return 0
    }

    private func write(one bytes: UnsafeRawBufferPointer, at offset: UInt64) -> CInt {
        var done = 0
        while done < bytes.count {
            let count = pwrite(file, bytes.address + done, bytes.count - done, Int(start + offset) + done)
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            done += count
        }
        return 0
    }

    public func write(_ parts: [iovec], at offset: UInt64) -> CInt {
        let total = parts.reduce(0) { $0 + $1.iov_len }
        while true {
            let count = pwritev(file, parts, CInt(parts.count), Int(start + offset))
            if count == total { return 0 }
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            // The rest, as after a nearly full disk, one by one.
            var position = offset
            for part in parts {
                let error = write(one: .init(start: part.iov_base, count: part.iov_len), at: position)
                if error != 0 { return error }
                position += UInt64(part.iov_len)
            }
            return 0
        }
    }

    /// Disks write a sector as a whole, which is what the kernel's driver counts on too.
    public func writeSafely(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> CInt { write(one: bytes, at: offset) }

    public func synchronise() -> CInt { fdatasync(file) == 0 ? 0 : errno }

    public func reserve(at offset: UInt64, count: UInt64) -> CInt { clinux_reserve(file, start + offset, count) == 0 ? 0 : errno }

    public func punch(at offset: UInt64, count: UInt64) -> CInt { clinux_punch_hole(file, start + offset, count) == 0 ? 0 : errno }

    public var journalPlace: JournalPlace? { nil }

    public func keep(_ place: JournalPlace) -> CInt { 0 }
}
