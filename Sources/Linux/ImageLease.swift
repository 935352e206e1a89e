import Glibc

/// The right to write to an image file, or to read it while nobody writes.
///
/// On one host it is a lock of the open file (flock(2)), which ends with its last holder, the kernel's loop device included.
/// For other hosts of a shared file system, and for people, a writer has a ``Lease`` beside the file, which says who it is.
public final class ImageLease: Sendable {
    private let lease: Lease?

    /// Why it cannot be had.
    public struct Held: Error, CustomStringConvertible {
        public let description: String
    }

    private init(_ lease: Lease?) { self.lease = lease }

    /// Where a writer's lease is.
    public static func path(of image: String) -> String { image + ".lease" }

    /// Milliseconds to wait for a holder of this host, which may just have ended.
    private static let patience = 500
    /// Milliseconds to wait for one that says that it ends.
    private static let patienceWithClosing = 30_000

    /// - Parameters:
    ///   - file: the open image. The lock is of this open file: it lasts as long as any copy of the descriptor.
    ///   - note: who holds it, for people: an instance, a job.
    /// - Throws: ``Held``, or ``SystemError`` where no lease can be made.
    public static func take(_ path: String, file: CInt, forWriting: Bool, note: String) throws -> ImageLease {
        var waited = 0
        defer { if waited > 0 { FileMark.waiting.takeAway(file) } }
        while flock(file, (forWriting ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK || errno == EINTR else { break }
            let holder = Lease.holder(self.path(of: path))
            guard waited < (holder?.isClosing == true ? patienceWithClosing : patience) else {
                throw Held(description: refusal(path, holder, forWriting: forWriting))
            }
            if waited == 0 { FileMark.waiting.set(file) }
            usleep(10_000)
            waited += 10
        }
        while forWriting, FileMark.copying.isSet(file) {
            guard waited < patience else { throw Held(description: "\(path) is being copied; it can be written when that has ended") }
            usleep(10_000)
            waited += 10
        }
        guard forWriting else {
            // A writer of another host.
            if let holder = Lease.holder(self.path(of: path)), holder.isAlive {
                throw Held(description: refusal(path, holder, forWriting: false))
            }
            return ImageLease(nil)
        }
        do throws(SystemError) {
            guard let lease = try Lease.take(self.path(of: path), note: note) else {
                throw SystemError("take the lease", errno: EBUSY)
            }
            return ImageLease(lease)
        } catch {
            switch error.errno {
            case EBUSY: throw Held(description: refusal(path, Lease.holder(self.path(of: path)), forWriting: true))
            // Nothing can be put beside the file: the lock of this host has to do.
            case EACCES, EPERM, EROFS: return ImageLease(nil)
            default: throw error
            }
        }
    }

    private static func refusal(_ path: String, _ holder: Lease.Holder?, forWriting: Bool) -> String {
        guard let holder else {
            return forWriting
                ? "\(path) is in use by another container that reads it; it can be written when that has ended"
                : "\(path) is being written; it can be read when that has ended"
        }
        return
            "\(path) is being written by \(holder.text); \(forWriting ? "there can be only one writer" : "it can be read when that has ended")"
            + (holder.isOfThisHost ? "" : " (if that host is dead, its lease ends a minute after it was last renewed)")
    }

    /// Says that the holder is alive; to be called every 20 seconds.
    /// - Returns: false where another host has taken the lease over: nothing may be written any more.
    public func renew() -> Bool {
        guard let lease else { return true }
        guard lease.isMine else { return false }
        lease.renew()
        return true
    }

    /// Says that the holder is about to end.
    public func announceEnd() { lease?.announceEnd() }

    public func release() { lease?.release() }
}
