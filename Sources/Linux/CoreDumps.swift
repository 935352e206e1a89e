import Glibc

/// Core dumps of this process, which would hold the keys that it has read (setrlimit(2)).
public enum CoreDumps {
    private nonisolated(unsafe) static var former: rlimit?

    /// None from now on.
    public static func forbid() {
        guard former == nil else { return }
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit) == 0 else { return }
        former = limit
        limit.rlim_cur = 0
        setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit)
    }

    /// As the caller had it, for a program that takes this one's place. Only for a process with one thread.
    public static func allowAgain() {
        guard var limit = former else { return }
        setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit)
        former = nil
    }
}
