/// Decides when an instance's health is checked, and what the results mean. Times are milliseconds of one clock.
package struct HealthMonitor {
    package let check: HealthCheck
    package private(set) var report = HealthReport()
    /// When the program was started.
    private var started: Int
    /// When the next check is due.
    package private(set) var next: Int

    package init(_ check: HealthCheck, started: Int) {
        self.check = check
        self.started = started
        next = started + min(check.interval, HealthCheck.startInterval)
    }

    /// The program was started again.
    package mutating func restarted(at time: Int) { self = HealthMonitor(check, started: time) }

    /// A check has ended.
    /// - Parameters:
    ///   - status: 0 where all is well.
    ///   - now: seconds since 1970, for the report.
    /// - Returns: whether the instance has become unhealthy.
    package mutating func ended(status: Int32, output: String, at time: Int, now: Int) -> Bool {
        report.status = status
        report.output = output
        report.time = now
        let isGettingReady = report.state == .starting && time - started < check.startPeriod
        next = time + (isGettingReady && status != 0 ? min(check.interval, HealthCheck.startInterval) : check.interval)
        guard status != 0 else {
            report.failures = 0
            report.state = .healthy
            return false
        }
        if isGettingReady { return false }
        report.failures += 1
        guard report.failures >= check.retries, report.state != .unhealthy else { return false }
        report.state = .unhealthy
        return true
    }
}
