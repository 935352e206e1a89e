import Glibc

/// An open file that is closed when its owner goes away.
public struct OwnedDescriptor: ~Copyable, Sendable {
    public let rawValue: CInt

    /// Takes over `rawValue`, which nobody else may close from now on.
    public init(_ rawValue: CInt) { self.rawValue = rawValue }

    deinit { close(rawValue) }

    /// Gives the descriptor away without closing it.
    public consuming func release() -> CInt {
        let raw = rawValue
        discard self
        return raw
    }

    /// Opens a file; `O_CLOEXEC` is always added.
    public static func open(
        _ path: String, _ flags: CInt = O_RDONLY, mode: mode_t = 0
    ) throws(SystemError) -> OwnedDescriptor {
        let raw = retryingOnInterrupt { Glibc.open(path, flags | O_CLOEXEC, mode) }
        guard raw >= 0 else { throw .last("open \(path)") }
        return OwnedDescriptor(raw)
    }

    /// Opens a file relative to a directory; `O_CLOEXEC` is always added.
    public static func open(
        at directory: CInt, _ path: String, _ flags: CInt, mode: mode_t = 0
    ) throws(SystemError) -> OwnedDescriptor {
        let raw = retryingOnInterrupt { Glibc.openat(directory, path, flags | O_CLOEXEC, mode) }
        guard raw >= 0 else { throw .last("open \(path)") }
        return OwnedDescriptor(raw)
    }
}

/// An open file shared by several owners; the last one closes it.
public final class SharedDescriptor: Sendable {
    public let rawValue: CInt
    public init(_ owned: consuming OwnedDescriptor) { rawValue = owned.release() }
    deinit { close(rawValue) }
}
