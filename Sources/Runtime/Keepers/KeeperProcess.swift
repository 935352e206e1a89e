import CLinux
import Glibc
import Linux

/// A process that keeps something for containers: a mount, a log, a network. It belongs to no terminal and no job, and ends
/// by itself when nobody needs it any more.
enum KeeperProcess {
    /// Starts one as nobody's child. Only for a process with one thread.
    static func start(_ body: () -> Never) throws(SystemError) {
        let child = try Process.fork {
            let keeper = clinux_fork()
            if keeper == 0 { body() }
            _exit(keeper < 0 ? 1 : 0)
        }
        guard Process.wait(for: child) == 0 else { throw SystemError("fork a keeper", errno: EAGAIN) }
    }

    /// Makes this process one.
    /// - Parameters:
    ///   - name: at most 15 bytes, as `ps` shows it.
    ///   - kept: for the command line; nil leaves it as it is.
    static func begin(_ name: String, for kept: String?) {
        // Signals of a terminal or of job control are meant for the programs, which still need what is kept.
        setsid()
        for number in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP] { signal(number, SIG_IGN) }
        var none = sigset_t()
        sigemptyset(&none)
        sigprocmask(SIG_SETMASK, &none, nil)
        Process.setName(name)
        if let kept { clinux_set_title(CommandLine.unsafeArgv, "\(name) \(kept)") }
        let null = open("/dev/null", O_RDWR)
        for standard in 0...2 as ClosedRange<CInt> { dup2(null, standard) }
        if null > 2 { close(null) }
    }
}
