import Glibc
import Linux

/// Lets a build that is interrupted clean up before it ends.
enum Interruption {
    /// Signals that end a build: the child that works is ended, what it has left is removed, and then this process ends as
    /// it was told.
    private static let signals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]
    nonisolated(unsafe) private static var received: sig_atomic_t = 0

    static func watch() {
        received = 0
        for number in signals {
            signal(number) { number in
                Interruption.received = sig_atomic_t(number)
                // All that it has started dies with it.
                if Process.awaited > 0 { kill(Process.awaited, SIGKILL) }
            }
        }
    }

    /// - Throws: ``BuildError/told`` where the build shall end.
    static func check() throws { if received != 0 { throw BuildError.told } }

    static func end() {
        for number in signals { signal(number, SIG_DFL) }
        if received != 0 { Process.raiseDeadly(CInt(received)) }
    }
}
