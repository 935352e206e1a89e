import Glibc
import Linux

/// Says, to all hosts that share a cache, that a process is using it: whoever cleans up keeps what it may need.
///
/// flock(2) says the same to this host at once (see ``FileLock``), but on NFS a lock of a directory does not reach the
/// other hosts. So each process has a file in the cache as well, in the form of a ``Lease``. Nobody renews it: one of
/// another host counts for ``term``, which is longer than any download should take.
final class CacheUse: Sendable {
    private let mark: Lease

    /// Seconds for which the mark of a process on another host counts.
    static let term = 86_400

    /// Leaves a mark.
    /// - Parameter folder: of the cache.
    /// - Returns: nil where the cache cannot be written; what is in it can be used nevertheless.
    init?(_ folder: String) {
        let marks = Self.marks(folder)
        guard (try? Files.makeDirectories(marks, mode: 0o700)) != nil,
            let mark = try? Lease.take("\(marks)/\(getpid())-\(UInt64.random(in: 0 ... .max))")
        else { return nil }
        self.mark = mark
    }

    deinit { mark.release() }

    private static func marks(_ folder: String) -> String { folder + "/users" }

    /// Somebody else who uses a cache; marks of the dead are removed on the way.
    static func other(in folder: String) -> Lease.Holder? {
        var found: Lease.Holder?
        for name in (try? Files.entries(marks(folder))) ?? [] {
            let path = "\(marks(folder))/\(name)"
            guard let holder = Lease.holder(path, term: term) else { continue }
            if !holder.isAlive {
                unlink(path)
            } else if !(holder.isOfThisHost && holder.process == getpid()) {
                found = holder
            }
        }
        return found
    }
}
