import Glibc

/// Signals that a process takes one after the other instead of being interrupted, see sigwaitinfo(2).
public struct SignalSet {
    private var set = sigset_t()
    private var old = sigset_t()

    /// Holds back all signals of this process from now on.
    public static func blockAll() -> SignalSet {
        var signals = SignalSet()
        sigfillset(&signals.set)
        sigprocmask(SIG_BLOCK, &signals.set, &signals.old)
        return signals
    }

    /// As it was before ``blockAll()``.
    public mutating func restore() { sigprocmask(SIG_SETMASK, &old, nil) }

    /// Waits for any signal, at most so long.
    /// - Parameter milliseconds: nil for as long as it takes.
    /// - Returns: its number, nil where there was none.
    @discardableResult
    public mutating func wait(milliseconds: Int?) -> CInt? {
        guard let milliseconds else { return next().number }
        var limit = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
        let number = sigtimedwait(&set, nil, &limit)
        return number > 0 ? number : nil
    }

    /// Waits for the next one.
    /// - Returns: its number, and whether the kernel sent it itself, as for Ctrl-C on a terminal.
    public mutating func next() -> (number: CInt, isFromKernel: Bool) {
        let codeOfKernel: CInt = 0x80
        while true {
            var info = siginfo_t()
            let number = sigwaitinfo(&set, &info)
            if number > 0 { return (number, info.si_code == codeOfKernel) }
        }
    }

    /// Waits until a child has changed its state, at most so long. Other signals stay pending.
    public mutating func waitForChild(milliseconds: Int) -> Bool {
        var child = sigset_t()
        sigemptyset(&child)
        sigaddset(&child, SIGCHLD)
        var limit = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
        return sigtimedwait(&child, nil, &limit) == SIGCHLD
    }
}
