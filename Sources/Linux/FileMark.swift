import Glibc

/// Says what a process has a file open for, so that who writes to it knows what the others need.
///
/// A lock of the open file (fcntl(2), "Open file description locks") on a byte that no file has: it ends with the process, reaches
/// other hosts as far as the file system has locks, and is apart from that of ``ImageLease``. Where the file system knows no locks,
/// nothing happens.
public enum FileMark: off_t {
    /// It is being copied.
    case copying = 0
    /// Nothing: its writer's end is waited for.
    case waiting = 1

    private static let first: off_t = 1 << 62
    private static let askCommand: CInt = 36
    private static let setCommand: CInt = 37

    /// Marks the file until it is taken away, or for as long as the file is open here.
    /// - Parameter file: open for reading.
    public func set(_ file: CInt) { set(file, CInt(F_RDLCK)) }

    public func takeAway(_ file: CInt) { set(file, CInt(F_UNLCK)) }

    private func set(_ file: CInt, _ type: CInt) {
        var lock = lock(type)
        _ = fcntl(file, Self.setCommand, &lock)
    }

    /// Whether somebody has marked the file, which is open here another time.
    public func isSet(_ file: CInt) -> Bool {
        var lock = lock(CInt(F_WRLCK))
        return fcntl(file, Self.askCommand, &lock) == 0 && CInt(lock.l_type) != CInt(F_UNLCK)
    }

    private func lock(_ type: CInt) -> flock {
        flock(l_type: Int16(type), l_whence: Int16(SEEK_SET), l_start: Self.first + rawValue, l_len: 1, l_pid: 0)
    }
}
