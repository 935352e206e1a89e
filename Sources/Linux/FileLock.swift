import Glibc

/// Says that a file or directory is in use, for as long as the value lives (flock(2)).
///
/// Who cleans up takes the lock alone, so that a lock counts only as long as the file still has the name by which it was
/// taken: between making something and locking it, another process may have removed it as a leftover.
public final class FileLock: Sendable {
    private let file: OwnedDescriptor

    private init(_ file: consuming OwnedDescriptor) { self.file = file }

    /// What came of a request.
    public enum Outcome {
        case taken(FileLock)
        /// The file is gone, or somebody is removing it.
        case gone
        /// The file system knows no locks, or the file cannot be opened.
        case unknown
    }

    /// Marks a file or directory as in use, together with others that do.
    public static func share(_ path: String) -> Outcome {
        do {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            guard flock(file.rawValue, LOCK_SH | LOCK_NB) == 0 else { return errno == EWOULDBLOCK ? .gone : .unknown }
            return isNamed(file, path) ? .taken(FileLock(file)) : .gone
        } catch {
            return error.errno == ENOENT ? .gone : .unknown
        }
    }

    /// Does something with a file or directory that nobody uses, and that nobody can begin to use meanwhile.
    /// - Returns: whether it was done.
    public static func whenUnused(_ path: String, _ body: () -> Void) -> Bool {
        // NFS locks alone only what is open for writing, which a directory cannot be.
        guard let file = (try? OwnedDescriptor.open(path, O_RDWR)) ?? (try? OwnedDescriptor.open(path, O_RDONLY)),
            flock(file.rawValue, LOCK_EX | LOCK_NB) == 0,
            isNamed(file, path)
        else { return false }
        body()
        // The lock ends here, not after its last mention.
        flock(file.rawValue, LOCK_UN)
        return true
    }

    private static func isNamed(_ file: borrowing OwnedDescriptor, _ path: String) -> Bool {
        var own = stat()
        guard fstat(file.rawValue, &own) == 0, let named = Files.status(path) else { return false }
        return own.st_dev == named.st_dev && own.st_ino == named.st_ino
    }
}
