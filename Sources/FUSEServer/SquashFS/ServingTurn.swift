import Glibc
import Linux

/// Which of the threads takes the next request.
///
/// The one that has the turn keeps it as long as it can answer from what is decoded already: the kernel then wakes the
/// same thread each time, on the same processor, and a single reader is served as fast as by one thread. Before it has
/// to wait for the disk or a decompressor, it gives the turn to another thread.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
final class ServingTurn: @unchecked Sendable {
    private let lock = Monitor()
    private var holder: pthread_t?
    private var hasEnded = false

    /// Waits until this thread has the turn.
    /// - Returns: false where there is nothing to serve any more.
    @discardableResult
    func take() -> Bool {
        let me = pthread_self()
        return lock.locked {
            while !hasEnded {
                guard let holder else {
                    self.holder = me
                    return true
                }
                if pthread_equal(holder, me) != 0 { return true }
                lock.wait()
            }
            return false
        }
    }

    /// Lets another thread take it; nothing where this thread does not have it.
    func give() {
        let me = pthread_self()
        lock.locked {
            guard let holder, pthread_equal(holder, me) != 0 else { return }
            self.holder = nil
            lock.wakeOne()
        }
    }

    func end() {
        lock.locked {
            hasEnded = true
            lock.wakeAll()
        }
    }
}
