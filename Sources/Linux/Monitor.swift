import Glibc

/// A mutual-exclusion lock with one condition variable, for plain threads (pthread_mutex_lock(3), pthread_cond_wait(3)).
///
/// `@unchecked Sendable`: its whole purpose is to be shared; the two C objects are only touched through pthread calls.
public final class Monitor: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    public init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    /// Runs `body` with the lock held.
    @inline(__always)
    public func locked<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    /// Gives the lock up until somebody calls ``wakeAll()``. Only with the lock held.
    public func wait() { pthread_cond_wait(condition, mutex) }

    /// Gives it up for a while at most. Only with the lock held.
    public func wait(milliseconds: Int) {
        var end = timespec()
        clock_gettime(CLOCK_REALTIME, &end)
        let nanoseconds = end.tv_nsec + milliseconds % 1000 * 1_000_000
        end.tv_sec += milliseconds / 1000 + nanoseconds / 1_000_000_000
        end.tv_nsec = nanoseconds % 1_000_000_000
        pthread_cond_timedwait(condition, mutex, &end)
    }

    /// Wakes one thread in ``wait()``.
    public func wakeOne() { pthread_cond_signal(condition) }

    /// Wakes every thread in ``wait()``.
    public func wakeAll() { pthread_cond_broadcast(condition) }
}
