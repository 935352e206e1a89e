import CLinux
import Glibc
import Linux

/// The two processes around a program in a PID namespace of its own, see pid_namespaces(7).
enum ContainerInit {
    /// Whether process 1 collects processes that have lost their parent. A program that a container engine has made
    /// process 1 often does not, and each start would leave a zombie.
    static var hostCollectsOrphans: Bool {
        guard let text = try? Files.readText("/proc/1/status") else { return true }
        let childEnds: UInt64 = 1 << (17 - 1)
        for line in text.split(separator: "\n") where ["SigBlk", "SigIgn", "SigCgt"].contains(String(line.prefix(6))) {
            let mask = UInt64(line.dropFirst(7).drop { $0 == "\t" || $0 == " " }, radix: 16) ?? 0
            if mask & childEnds != 0 { return true }
        }
        return false
    }

    /// Runs `body` in a child, where it is wanted as the first process of a new PID namespace, and ends this process as
    /// that one ended.
    /// - Parameters:
    ///   - server: a child that will end by itself when the container has.
    ///   - afterFork: in this process.
    static func supervise(
        newNamespace: Bool, server: pid_t?, _ body: () -> Never, afterFork: () -> Void
    ) throws(SystemError) -> Never {
        if newNamespace { try Namespaces.pid.unshare() }
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
        var signals = SignalSet.blockAll()
        let child = try Process.fork {
            signals.restore()
            Process.dieWithParent()
            // The parent may have died before the call above.
            close(ends[1])
            var poller = pollfd(fd: ends[0], events: 0, revents: 0)
            if poll(&poller, 1, 0) > 0 { _exit(255) }
            close(ends[0])
            body()
        }
        close(ends[0])
        afterFork()
        // The program may ask for its parent's name in `ps`.
        Process.setName("singularity")
        while true {
            let (number, isFromKernel) = signals.next()
            if number == SIGCHLD {
                var status: CInt = 0
                guard waitpid(child, &status, WNOHANG) == child else { continue }
                if let server { collect(server, &signals) }
                end(status, isInit: false)
            }
            // What the terminal sends to the foreground reaches the program without our help.
            if !isFromKernel && number != SIGURG { kill(child, number) }
            if number == SIGTSTP { kill(getpid(), SIGSTOP) }
        }
    }

    /// Waits for the image server, which ends a moment after the last process of the container; one that goes on in the
    /// background keeps it, and is not waited for.
    private static func collect(_ server: pid_t, _ signals: inout SignalSet) {
        for _ in 0..<100 {
            if waitpid(server, nil, WNOHANG) != 0 { return }
            signals.wait(milliseconds: 5)
        }
    }

    /// As process 1: starts `body` as a child, passes signals on to it, collects orphans, and ends when it ends. The
    /// kernel then kills what is left in the namespace.
    static func runAsInit(_ body: () -> Never) throws(SystemError) -> Never {
        var signals = SignalSet.blockAll()
        let child = try Process.fork {
            signals.restore()
            body()
        }
        Process.closeDescriptors(except: [])
        Process.setName("sinit")
        while true {
            let (number, isFromKernel) = signals.next()
            if number == SIGCHLD {
                var status: CInt = 0
                while true {
                    let ended = waitpid(-1, &status, WNOHANG)
                    if ended == child { end(status, isInit: true) }
                    if ended <= 0 { break }
                }
                continue
            }
            if !isFromKernel && number != SIGURG { kill(child, number) }
        }
    }

    /// - Parameter isInit: a process 1 cannot be killed by a signal of its own.
    private static func end(_ status: CInt, isInit: Bool) -> Never {
        let signal = status & 0x7f
        if signal == 0 { _exit((status >> 8) & 0xff) }
        if isInit { _exit(128 + signal) }
        Process.raiseDeadly(signal)
    }
}
