import Glibc

/// Says that a file or directory is in use, for as long as the value or a copy of its descriptor lives (flock(2)).
///
/// Only a courtesy towards those who clean up: nothing is right or wrong by it, so it does not matter where a network
/// file system ignores it.
public final class FileLock: Sendable {
    private let file: OwnedDescriptor

    private init(_ file: consuming OwnedDescriptor) { self.file = file }

    /// Marks a file or directory as in use, together with others that do.
    public static func share(_ path: String) -> FileLock? { take(path, LOCK_SH) }

    /// Marks it as being cleaned up; nil where somebody uses it.
    public static func own(_ path: String) -> FileLock? { take(path, LOCK_EX) }

    private static func take(_ path: String, _ kind: CInt) -> FileLock? {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY), flock(file.rawValue, kind | LOCK_NB) == 0 else { return nil }
        return FileLock(file)
    }
}
