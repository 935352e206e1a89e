import CLinux
import Glibc
import Linux
import Messages

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

    /// What becomes the program of a container.
    struct Program {
        let log: Log
        let body: () throws(RuntimeError) -> Never

        init(log: Log, _ body: @escaping () throws(RuntimeError) -> Never) {
            self.log = log
            self.body = body
        }

        /// For a forked child, whose errors nobody else can report.
        func becomeOrExit() -> Never {
            do throws(RuntimeError) { try body() } catch {
                log.fatal("\(error)")
                _exit(255)
            }
        }
    }

    /// As process 1: starts the program as a child, passes signals on to it, collects orphans, and ends when it ends. The
    /// kernel then kills what is left in the namespace.
    static func runAsInit(_ program: Program) throws(SystemError) -> Never {
        var signals = SignalSet.blockAll()
        let child = try Process.fork {
            signals.restore()
            program.becomeOrExit()
        }
        Process.closeDescriptors(except: [])
        Process.setName("sinit")
        while true {
            let (number, isFromKernel) = signals.next()
            if number == SIGCHLD {
                var status: CInt = 0
                while true {
                    let ended = waitpid(-1, &status, WNOHANG)
                    if ended == child { endAsInit(status) }
                    if ended <= 0 { break }
                }
                continue
            }
            if !isFromKernel && number != SIGURG { kill(child, number) }
        }
    }

    /// A process 1 cannot be killed by a signal of its own.
    static func endAsInit(_ status: CInt) -> Never { _exit(Process.exitCode(status)) }
}
