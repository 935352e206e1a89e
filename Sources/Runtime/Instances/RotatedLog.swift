import Glibc
import Linux

/// When a log of an instance is full, and how many of it are kept.
public struct LogLimit: Sendable, Equatable {
    /// Bytes.
    public var size: Int
    /// With the one that is written to.
    public var files: Int

    public static let smallest = 4096
    public static let usualFiles = 5

    public init(size: Int, files: Int = LogLimit.usualFiles) {
        self.size = size
        self.files = files
    }
}

/// A file that is added to until it is full: it then becomes `NAME.1`, `NAME.1` becomes `NAME.2`, and so on, and the oldest
/// is removed.
package struct RotatedLog {
    let path: String
    let limit: LogLimit
    /// Belongs to this process's copy of this value.
    package private(set) var descriptor: CInt
    private var size: Int
    private var endsWithLine = true

    /// - Parameter file: opened for adding to `path`.
    package init(_ path: String, _ file: consuming OwnedDescriptor, _ limit: LogLimit) {
        self.path = path
        self.limit = limit
        size = max(0, Int(lseek(file.rawValue, 0, SEEK_END)))
        descriptor = file.release()
    }

    /// The files of a log that may be there, the oldest first.
    package static func paths(_ path: String, files: Int) -> [String] { (1..<max(2, files)).reversed().map { "\(path).\($0)" } + [path] }

    /// Adds bytes. A line goes into one file, unless it is longer than a file may be. What cannot be written is lost: who
    /// prints must not be kept waiting for a full disk.
    package mutating func add(_ bytes: ArraySlice<UInt8>) {
        var rest = bytes
        while !rest.isEmpty {
            let room = limit.size - size
            if rest.count <= room { return write(rest) }
            let fitting = rest.prefix(max(0, room)).lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 }
            if let fitting {
                write(rest[rest.startIndex..<fitting])
                rest = rest[fitting...]
            } else if size == 0 || !endsWithLine {
                // A line that has begun here goes on here, as far as there is room.
                write(rest.prefix(max(0, room)))
                rest = rest.dropFirst(max(0, room))
            }
            if !rest.isEmpty { rotate() }
        }
    }

    private mutating func write(_ bytes: ArraySlice<UInt8>) {
        guard let last = bytes.last else { return }
        bytes.withUnsafeBytes { try? Files.writeAll($0, to: descriptor, name: path) }
        size += bytes.count
        endsWithLine = last == UInt8(ascii: "\n")
    }

    private mutating func rotate() {
        let paths = Self.paths(path, files: limit.files)
        if limit.files > 1 {
            for (older, newer) in zip(paths, paths.dropFirst()) { rename(newer, older) }
        } else {
            unlink(path)
        }
        size = 0
        endsWithLine = true
        // Without a new file the old one, whatever it is called now, goes on.
        guard let new = try? OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, mode: 0o644) else { return }
        close(descriptor)
        descriptor = new.release()
    }
}
