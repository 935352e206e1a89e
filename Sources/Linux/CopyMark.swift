import Glibc

/// Says that a file is being copied, so that who writes to it keeps what the copy needs.
///
/// A lock of the open file (fcntl(2), "Open file description locks") on a byte that no file has: it ends with the process, reaches
/// other hosts as far as the file system has locks, and is apart from that of ``ImageLease``.
public enum CopyMark {
    private static let position: off_t = 1 << 62
    private static let askCommand: CInt = 36
    private static let setCommand: CInt = 37

    /// Marks the file for as long as it is open here. Where the file system knows no locks, nothing happens.
    /// - Parameter file: open for reading.
    public static func set(_ file: CInt) {
        var lock = lock(CInt(F_RDLCK))
        _ = fcntl(file, setCommand, &lock)
    }

    /// Whether somebody copies the file, which is open here another time.
    public static func isSet(_ file: CInt) -> Bool {
        var lock = lock(CInt(F_WRLCK))
        return fcntl(file, askCommand, &lock) == 0 && CInt(lock.l_type) != CInt(F_UNLCK)
    }

    private static func lock(_ type: CInt) -> flock {
        flock(l_type: Int16(type), l_whence: Int16(SEEK_SET), l_start: position, l_len: 1, l_pid: 0)
    }
}
