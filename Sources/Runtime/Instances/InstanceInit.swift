import CLinux
import Glibc
import Linux

extension ContainerInit {
    /// As the first process of an instance: starts the program, starts it again where that is wanted, asks after its health,
    /// and stays as long as the instance shall, collecting orphans.
    ///
    /// A program that ends with 0 leaves the instance running: start scripts often start services and end. Signals go to
    /// the program's process group, or to all processes where it has ended.
    /// - Parameter probe: becomes a check of the instance's health.
    static func runInstance(
        _ program: Program, hasProgram: Bool, probe: Program?, _ settings: InstanceSettings, _ start: InstanceStart?
    ) throws(SystemError) -> Never {
        let health = HealthKeeper(settings.health, probe, start?.healthFile)
        var service = InstanceService(program: program, restart: settings.restart, health: health)
        if hasProgram { try service.start() }
        Process.closeDescriptors(except: Set([start?.descriptor, health?.file, service.executed].compactMap { $0 }))
        Process.setName("sinit")
        if hasProgram { service.watchProbation() }
        start?.tellReady()
        while true { try service.step() }
    }
}

/// The program of an instance, for the container's first process.
struct InstanceService {
    /// Milliseconds after execve(2) in which a program that ends has failed to start.
    private static let probation = 5
    /// Milliseconds between SIGTERM and SIGKILL for a program that is not well.
    private static let grace = 10_000
    /// A program that has run for so many milliseconds has been started with success.
    private static let settled = 10_000

    private let program: ContainerInit.Program
    private let restart: InstanceSettings.Restart
    private var health: HealthKeeper?
    private var signals = SignalSet.blockAll()
    /// 0 where it does not run.
    private var child: pid_t = 0
    private var started = 0
    /// Failures in a row.
    private var failures = 0
    /// It was asked to end.
    private var isStopping = false
    /// It is not well: when it has ended, it is started again, or the instance ends.
    private var consequence = HealthCheck.Consequence.none
    /// When it shall be started again, by the monotonic clock.
    private var startAt: Int?
    /// When it is killed, where it has not ended by itself.
    private var killAt: Int?
    /// Ends when the program has been executed, or could not be.
    private(set) var executed: CInt?

    init(program: ContainerInit.Program, restart: InstanceSettings.Restart, health: HealthKeeper?) {
        self.program = program
        self.restart = restart
        self.health = health
    }

    mutating func start() throws(SystemError) {
        var old = signals
        let program = program
        started = MonotonicClock.milliseconds
        startAt = nil
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
        guard restart == .never, signals.waitForChild(milliseconds: Self.probation) else { return }
        var status: CInt = 0
        while true {
            let ended = waitpid(-1, &status, WNOHANG)
            if ended <= 0 { return }
            if ended == child {
                if status != 0 { ContainerInit.endAsInit(status) }
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

    /// Waits for what comes next, a signal or the time for something, and does it.
    mutating func step() throws(SystemError) {
        let due = [startAt, killAt, isAsked ? health?.due : nil].compactMap { $0 }.min()
        if let number = signals.wait(milliseconds: due.map { max(0, $0 - MonotonicClock.milliseconds) }) { try take(number) }
        let now = MonotonicClock.milliseconds
        if let time = killAt, time <= now {
            killAt = nil
            send(SIGKILL)
        }
        if let time = startAt {
            guard time <= now else { return }
            try start()
            awaitExecution()
            health?.restarted(at: now)
        } else if isAsked, let wanted = try health?.step(at: now, signals) {
            end(because: wanted, at: now)
        }
    }

    /// Whether its health matters.
    private var isAsked: Bool { startAt == nil && !isStopping && consequence == .none }

    private mutating func take(_ number: CInt) throws(SystemError) {
        if number == SIGCHLD { return try collect() }
        if number == SIGURG { return }
        if [SIGINT, SIGTERM, SIGQUIT, SIGHUP].contains(number) {
            if startAt != nil { _exit(number == SIGINT || number == SIGTERM ? 0 : 128 + number) }
            isStopping = true
        }
        send(number)
        if isStopping && child == 0 && (getpid() != 1 || !hasChildren) { _exit(0) }
    }

    /// Services that the start script has left behind end by themselves, and this process after the last. Without a PID
    /// namespace "all processes" would be all of the user's.
    private func send(_ number: CInt) {
        if child > 0 { kill(-child, number) } else if getpid() == 1 { kill(-1, number) }
    }

    private var hasChildren: Bool { waitpid(-1, nil, WNOHANG) >= 0 }

    private mutating func end(because wanted: HealthCheck.Consequence, at time: Int) {
        consequence = wanted
        killAt = time + Self.grace
        send(SIGTERM)
        if child == 0 && !hasChildren { lastEnded() }
    }

    private mutating func collect() throws(SystemError) {
        var status: CInt = 0
        while true {
            let ended = waitpid(-1, &status, WNOHANG)
            if ended == 0 { return }
            if ended < 0 {
                if child == 0 { lastEnded() }
                return
            }
            if health?.collected(ended, status) ?? false { continue }
            if ended == child { programEnded(status) }
        }
    }

    /// Neither the program nor anything that it has started is left.
    private mutating func lastEnded() {
        if isStopping { _exit(0) }
        switch consequence {
        case .none: return
        case .restart: startAgain(after: 0)
        case .stop: _exit(1)
        }
    }

    private mutating func programEnded(_ status: CInt) {
        child = 0
        if isStopping { ContainerInit.endAsInit(status) }
        // One that has run well for a while starts afresh.
        failures = MonotonicClock.milliseconds - started > Self.settled ? 1 : failures + 1
        // A tenth of a second, then twice as long each time, up to half a minute.
        let pause = min(30_000, 100 << min(failures - 1, 10))
        switch consequence {
        case .none: break
        case .restart: return startAgain(after: pause)
        case .stop: _exit(1)
        }
        switch restart {
        case .never:
            if status != 0 { ContainerInit.endAsInit(status) }
            return
        case .onFailure(let limit):
            if status == 0 { return }
            if let limit, failures > limit { ContainerInit.endAsInit(status) }
        case .always: break
        }
        startAgain(after: pause)
    }

    private mutating func startAgain(after pause: Int) {
        startAt = MonotonicClock.milliseconds + pause
        consequence = .none
        killAt = nil
    }
}
