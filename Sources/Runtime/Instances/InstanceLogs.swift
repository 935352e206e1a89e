import Glibc
import Linux

/// What an instance has printed, over all files of its log.
public struct InstanceLogs {
    private let path: String
    private let files: Int
    private let record: InstanceRecord

    /// - Parameter errors: the log of standard error.
    public init(_ record: InstanceRecord, errors: Bool) {
        self.record = record
        path = errors ? record.logErrPath : record.logOutPath
        files = record.settings?.logFiles ?? 1
    }

    /// Copies it to a descriptor.
    /// - Parameters:
    ///   - lines: the last so many; nil for all.
    ///   - follows: goes on until the instance ends.
    public func write(to output: CInt, last lines: Int?, follows: Bool) throws {
        var open = try newestFirst(until: nil)
        if let lines {
            open = try Self.rewind(open, lines)
        } else {
            open.reverse()
        }
        for file in open { try Self.copy(file, to: output) }
        guard follows, var current = open.last else { return }
        while true {
            // What was written before it ended is printed as well.
            let isAlive = record.isAlive
            let newer = try newestFirst(until: Self.inode(current))
            try Self.copy(current, to: output)
            for file in newer.reversed() {
                try Self.copy(file, to: output)
                current = file
            }
            if !isAlive { return }
            usleep(100_000)
        }
    }

    /// The files from the newest to one that is known. In this order none is missed when a new one is begun meanwhile.
    private func newestFirst(until known: ino_t?) throws -> [SharedDescriptor] {
        var out: [SharedDescriptor] = []
        var seen: Set<ino_t> = []
        for path in RotatedLog.paths(path, files: files).reversed() {
            guard let file = try? OwnedDescriptor.open(path, O_RDONLY | O_NOFOLLOW) else {
                if path == self.path, known == nil { throw SystemError.last("open \(path)") }
                continue
            }
            let shared = SharedDescriptor(file)
            let inode = Self.inode(shared)
            if inode == known { break }
            if seen.insert(inode).inserted { out.append(shared) }
        }
        return out
    }

    private static func inode(_ file: SharedDescriptor) -> ino_t {
        var status = stat()
        return fstat(file.rawValue, &status) == 0 ? status.st_ino : 0
    }

    /// - Parameter newestFirst: files.
    /// - Returns: the files that the last lines are in, the oldest first, each positioned where they begin.
    private static func rewind(_ newestFirst: [SharedDescriptor], _ lines: Int) throws -> [SharedDescriptor] {
        var out: [SharedDescriptor] = []
        var left = lines
        for (index, file) in newestFirst.enumerated() {
            out.insert(file, at: 0)
            var position = lseek(file.rawValue, 0, SEEK_END)
            if lines == 0 { return out }
            // The newline at the very end ends the last line and begins none.
            var isEnd = index == 0
            while position > 0 {
                let size = min(1 << 16, position)
                position -= size
                lseek(file.rawValue, position, SEEK_SET)
                var chunk = [UInt8](repeating: 0, count: Int(size))
                guard retryingOnInterrupt({ read(file.rawValue, &chunk, chunk.count) }) == chunk.count else { break }
                for offset in chunk.indices.reversed() {
                    defer { isEnd = false }
                    guard chunk[offset] == UInt8(ascii: "\n"), !isEnd else { continue }
                    left -= 1
                    if left == 0 {
                        lseek(file.rawValue, position + offset + 1, SEEK_SET)
                        return out
                    }
                }
            }
            lseek(file.rawValue, 0, SEEK_SET)
        }
        return out
    }

    private static func copy(_ file: SharedDescriptor, to output: CInt) throws {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = retryingOnInterrupt { read(file.rawValue, &buffer, buffer.count) }
            if count <= 0 { return }
            try Files.writeAll(Array(buffer.prefix(count)), to: output, name: "standard output")
        }
    }
}
