import CLinux
import Glibc
import Linux

extension ContainerInit {
    /// Milliseconds after execve(2) in which a program that ends has failed to start.
    private static let probation = 5

    /// As the first process of an instance: starts the program, starts it again where that is wanted, and stays as long as
    /// the instance shall, collecting orphans.
    ///
    /// A program that ends with 0 leaves the instance running: start scripts often start services and end. Signals go to
    /// the program's process group, or to all processes where it has ended.
    static func runInstance(
        _ program: Program, hasProgram: Bool, _ restart: InstanceSettings.Restart, _ start: InstanceStart?
    ) throws(SystemError) -> Never {
        var service = Service(program: program, restart: restart, signals: SignalSet.blockAll())
        if hasProgram { try service.start() }
        Process.closeDescriptors(except: Set([start?.descriptor, service.executed].compactMap { $0 }))
        Process.setName("sinit")
        if hasProgram { service.watchProbation() }
        start?.tellReady()
        while true { try service.step() }
    }

    /// The program of an instance.
    private struct Service {
        let program: Program
        let restart: InstanceSettings.Restart
        var signals: SignalSet
        /// 0 where it does not run.
        private var child: pid_t = 0
        private var started = timespec()
        /// Failures in a row.
        private var failures = 0
        /// It was asked to end.
        private var isStopping = false
        /// Ends when the program has been executed, or could not be.
        private(set) var executed: CInt?

        init(program: Program, restart: InstanceSettings.Restart, signals: SignalSet) {
            self.program = program
            self.restart = restart
            self.signals = signals
        }

        mutating func start() throws(SystemError) {
            var old = signals
            let program = program
            clock_gettime(CLOCK_MONOTONIC, &started)
            var ends: [CInt] = [-1, -1]
            // The other end is closed by execve(2).
            guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
            child = try Process.fork {
                old.restore()
                setpgid(0, 0)
                program.becomeOrExit()
            }
            setpgid(child, child)
            close(ends[1])
            executed = ends[0]
        }

        /// A program that fails at once has not been started.
        mutating func watchProbation() {
            awaitExecution()
            guard restart == .never, signals.waitForChild(milliseconds: probation) else { return }
            var status: CInt = 0
            while true {
                let ended = waitpid(-1, &status, WNOHANG)
                if ended <= 0 { return }
                if ended == child {
                    if status != 0 { endAsInit(status) }
                    child = 0
                }
            }
        }

        private mutating func awaitExecution() {
            guard let descriptor = executed else { return }
            var byte: UInt8 = 0
            _ = retryingOnInterrupt { read(descriptor, &byte, 1) }
            close(descriptor)
            executed = nil
        }

        mutating func step() throws(SystemError) {
            let (number, _) = signals.next()
            if number == SIGCHLD { return try collect() }
            if number == SIGURG { return }
            if [SIGINT, SIGTERM, SIGQUIT, SIGHUP].contains(number) { isStopping = true }
            if child > 0 {
                kill(-child, number)
                return
            }
            // Services that the start script has left behind end by themselves, and this process after the last. Without a
            // PID namespace "all processes" would be all of the user's.
            if getpid() == 1 { kill(-1, number) }
            if isStopping && (getpid() != 1 || !hasChildren) { _exit(0) }
        }

        private var hasChildren: Bool { waitpid(-1, nil, WNOHANG) >= 0 }

        private mutating func collect() throws(SystemError) {
            var status: CInt = 0
            while true {
                let ended = waitpid(-1, &status, WNOHANG)
                if ended == 0 { return }
                if ended < 0 {
                    if isStopping && child == 0 { _exit(0) }
                    return
                }
                if ended == child { try programEnded(status) }
            }
        }

        private mutating func programEnded(_ status: CInt) throws(SystemError) {
            child = 0
            if isStopping { endAsInit(status) }
            var now = timespec()
            clock_gettime(CLOCK_MONOTONIC, &now)
            // One that has run well for a while starts afresh.
            failures = now.tv_sec - started.tv_sec > 10 ? 1 : failures + 1
            switch restart {
            case .never:
                if status != 0 { endAsInit(status) }
                return
            case .onFailure(let limit):
                if status == 0 { return }
                if let limit, failures > limit { endAsInit(status) }
            case .always: break
            }
            // A tenth of a second, then twice as long each time, up to half a minute.
            var left = min(30_000, 100 << min(failures - 1, 10))
            while left > 0 {
                if let number = signals.waitForStop(milliseconds: min(left, 100)) {
                    _exit(number == SIGINT || number == SIGTERM ? 0 : 128 + number)
                }
                left -= 100
            }
            try start()
            awaitExecution()
        }
    }
}
