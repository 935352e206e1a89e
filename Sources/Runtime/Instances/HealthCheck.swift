/// How it is found out whether an instance does its work: a command in the container that ends with 0 when all is well.
public struct HealthCheck: Sendable, Equatable {
    /// What happens to a program that is not well.
    public enum Consequence: String, Sendable, CaseIterable {
        /// It is said, and no more.
        case none
        /// The program is ended and started again.
        case restart
        /// The instance ends.
        case stop
    }

    /// For the container's `/bin/sh -c`.
    public var command: String
    /// Milliseconds from the end of one check to the next.
    public var interval = 30_000
    /// Milliseconds after which a check has failed.
    public var timeout = 30_000
    /// Milliseconds that a program has to get ready: it is asked more often, and failures do not count.
    public var startPeriod = 30_000
    /// Failures in a row that make an instance unhealthy.
    public var retries = 3
    public var consequence = Consequence.none

    /// Milliseconds between checks while the program gets ready.
    static let startInterval = 1000

    public init(command: String) { self.command = command }

    /// Reads a time such as `500ms`, `30s`, `1m30s` or `2h`; a number without a unit is seconds.
    /// - Returns: milliseconds, or nil where it is no time.
    public static func milliseconds(_ text: String) -> Int? {
        if let seconds = Double(text) { return bounded(seconds * 1000) }
        var total = 0.0
        var rest = Substring(text)
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isASCII && $0.isLetter }
            rest = rest.dropFirst(unit.count)
            guard let number = Double(digits), let factor = units[String(unit)] else { return nil }
            total += number * factor
        }
        return bounded(total)
    }

    private static let units = ["ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0]

    /// Up to a year.
    private static func bounded(_ milliseconds: Double) -> Int? {
        milliseconds >= 0 && milliseconds <= 366 * 86_400_000.0 ? Int(milliseconds) : nil
    }
}
