import Glibc

/// The clock that nobody sets, see clock_gettime(2).
public enum MonotonicClock {
    public static var nanoseconds: UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }

    public static var milliseconds: Int { Int(nanoseconds / 1_000_000) }

    public static var seconds: Int { Int(nanoseconds / 1_000_000_000) }
}
