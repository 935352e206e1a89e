import Glibc

/// Reads and writes of the bytes that stand in a file; results are errno values.
enum RawFile {
    /// What is behind the end is zero.
    static func read(_ file: CInt, _ target: UnsafeMutableRawBufferPointer, at offset: UInt64) -> CInt {
        var rest = target
        var position = off_t(offset)
        while let base = rest.baseAddress, !rest.isEmpty {
            let count = pread(file, base, rest.count, position)
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            if count == 0 {
                memset(base, 0, rest.count)
                return 0
            }
            rest = UnsafeMutableRawBufferPointer(rebasing: rest[count...])
            position += off_t(count)
        }
        return 0
    }

    static func write(_ file: CInt, _ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> CInt {
        var rest = bytes
        var position = off_t(offset)
        while let base = rest.baseAddress, !rest.isEmpty {
            let count = pwrite(file, base, rest.count, position)
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            position += off_t(count)
        }
        return 0
    }
}
