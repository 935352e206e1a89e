import Glibc
import Linux

/// Checks an instance's health in time and reports it; a part of the container's first process.
struct HealthKeeper {
    private var monitor: HealthMonitor
    private let program: ContainerInit.Program
    /// Gets the reports.
    let file: CInt
    private var probe: HealthProbe?
    /// A check that has ended since the last step.
    private var ended: CInt?

    /// Milliseconds between looks at what a check prints.
    private static let pace = 100

    /// - Returns: nil where no health is checked.
    init?(_ check: HealthCheck?, _ program: ContainerInit.Program?, _ file: CInt?) {
        guard let check, let program, let file else { return nil }
        monitor = HealthMonitor(check, started: MonotonicClock.milliseconds)
        self.program = program
        self.file = file
        monitor.report.write(to: file)
    }

    /// When there is something to do, by the monotonic clock.
    var due: Int {
        guard let probe else { return monitor.next }
        if ended != nil { return 0 }
        return min(probe.isOverdue ? Int.max : probe.deadline, MonotonicClock.milliseconds + Self.pace)
    }

    /// The program is new; what a check of the old one will say does not count.
    mutating func restarted(at time: Int) {
        if let probe {
            // One that was collected has no number any more.
            if ended == nil { kill(-probe.process, SIGKILL) }
            _ = probe.finish(0, monitor.check)
        }
        probe = nil
        ended = nil
        monitor.restarted(at: time)
        monitor.report.write(to: file)
    }

    /// A child of this process has ended.
    /// - Returns: whether it was a check.
    mutating func collected(_ process: pid_t, _ status: CInt) -> Bool {
        guard let probe, probe.process == process else { return false }
        ended = status
        return true
    }

    /// Does what is due.
    /// - Returns: what shall happen to the program; nil where nothing shall.
    mutating func step(at time: Int, _ signals: SignalSet) throws(SystemError) -> HealthCheck.Consequence? {
        guard var running = probe else {
            if time >= monitor.next { probe = try HealthProbe(program, deadline: time + monitor.check.timeout, signals) }
            return nil
        }
        if let status = ended {
            let (code, output) = running.finish(status, monitor.check)
            (probe, ended) = (nil, nil)
            let isIll = monitor.ended(status: code, output: output, at: time, now: Glibc.time(nil))
            monitor.report.write(to: file)
            return isIll && monitor.check.consequence != .none ? monitor.check.consequence : nil
        }
        running.drain()
        running.endIfOverdue(at: time)
        probe = running
        return nil
    }
}
