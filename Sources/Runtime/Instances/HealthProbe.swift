import CLinux
import Glibc
import Linux

/// One check of an instance's health that runs, as a child of the container's first process.
struct HealthProbe {
    let process: pid_t
    /// What it prints; never waits.
    private let output: CInt
    /// Milliseconds of the monotonic clock.
    let deadline: Int
    private var printed: [UInt8] = []
    private(set) var isOverdue = false

    /// - Parameters:
    ///   - program: becomes the check.
    ///   - signals: are blocked in this process.
    init(_ program: ContainerInit.Program, deadline: Int, _ signals: SignalSet) throws(SystemError) {
        var ends: [CInt] = [-1, -1]
        guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
        let (reading, writing) = (ends[0], ends[1])
        output = reading
        self.deadline = deadline
        var old = signals
        process = try Process.fork {
            old.restore()
            setpgid(0, 0)
            let null = open("/dev/null", O_RDONLY)
            if null >= 0 { dup2(null, 0) }
            dup2(writing, 1)
            dup2(writing, 2)
            program.becomeOrExit()
        }
        setpgid(process, process)
        close(writing)
        _ = fcntl(reading, F_SETFL, O_NONBLOCK)
    }

    /// Reads what it has printed, so that it never waits for a reader; only the end is kept.
    mutating func drain() {
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        // What prints without end must not keep the caller from its work.
        for _ in 0..<64 {
            let count = read(output, &buffer, buffer.count)
            if count <= 0 { return }
            printed += buffer.prefix(count)
            if printed.count > HealthReport.outputLimit { printed.removeFirst(printed.count - HealthReport.outputLimit) }
        }
    }

    /// Ends it where its time is over.
    mutating func endIfOverdue(at time: Int) {
        guard !isOverdue, time >= deadline else { return }
        isOverdue = true
        kill(-process, SIGKILL)
    }

    /// After it was collected.
    /// - Parameter status: as wait(2) has it.
    consuming func finish(_ status: CInt, _ check: HealthCheck) -> (status: Int32, output: String) {
        drain()
        close(output)
        let text = String(decoding: printed, as: UTF8.self)
        return (Process.exitCode(status), isOverdue ? text + "\nthe check did not end within \(check.timeout) ms" : text)
    }
}
