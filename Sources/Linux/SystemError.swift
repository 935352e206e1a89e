import Glibc

/// A system call that failed.
public struct SystemError: Error, CustomStringConvertible, Sendable {
    /// What was tried, with the file or object it was tried on: `open /etc/passwd`.
    public let operation: String
    /// The `errno` value of the call, see errno(3).
    public let errno: CInt

    public init(_ operation: String, errno: CInt) {
        self.operation = operation
        self.errno = errno
    }

    /// Takes `errno` as the last failed call in this thread left it.
    public static func last(_ operation: String) -> SystemError {
        SystemError(operation, errno: Glibc.errno)
    }

    /// The system's own sentence for ``errno``.
    public var reason: String { String(cString: strerror(errno)) }

    public var description: String { "\(operation): \(reason)" }
}

/// Repeats `call` while a signal interrupts it.
@discardableResult
@inline(__always)
public func retryingOnInterrupt<T: FixedWidthInteger>(_ call: () -> T) -> T {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}
