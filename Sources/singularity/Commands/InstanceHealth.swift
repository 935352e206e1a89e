import CommandSyntax
import Glibc
import Linux
import Messages
import Runtime

/// What is known of an instance's health, for people and for programs.
enum InstanceHealth {
    /// Exit statuses of `instance health`.
    private static let isWell: Int32 = 0
    private static let isNotWell: Int32 = 1

    static func show(_ parsed: ParsedArguments) throws -> Int32 {
        let store = try Instances.store(of: parsed["user"])
        let record = try Instances.running(parsed.arguments[0], parsed)
        guard var report = store.health(of: record) else {
            throw CommandError("the health of \(record.name) is not checked: start it with --health-cmd COMMAND")
        }
        if let text = parsed["wait"] {
            guard let limit = HealthCheck.milliseconds(text == "yes" ? "60s" : text) else {
                throw CommandError("--wait=\(text): give a time such as 30s or 5m")
            }
            let end = MonotonicClock.milliseconds + limit
            while report.state != .healthy, MonotonicClock.milliseconds < end {
                usleep(20_000)
                guard record.isAlive else {
                    throw CommandError("the instance \(record.name) has ended; `singularity instance logs` has its output")
                }
                report = store.health(of: record) ?? report
            }
        }
        print(parsed.has("json") ? json(report).indented : text(report))
        return report.state == .healthy ? isWell : isNotWell
    }

    private static func json(_ report: HealthReport) -> JSONValue {
        .object([
            ("state", .string(report.state.rawValue)), ("failures", .number(report.failures)),
            ("status", report.status.map { .number(Int($0)) } ?? .null), ("time", report.time.map(JSONValue.number) ?? .null),
            ("output", .string(report.output)),
        ])
    }

    private static func text(_ report: HealthReport) -> String {
        var lines = [report.state.rawValue]
        if let status = report.status {
            let seconds = report.time.map { " \(max(0, time(nil) - $0)) s ago" } ?? ""
            lines.append(
                "the last check ended\(seconds) with status \(status)"
                    + (report.failures > 1 ? ", \(report.failures) have failed in a row" : ""))
        }
        lines += Terminal.plain(report.output).split(separator: "\n").map { "  " + $0 }
        return lines.joined(separator: "\n")
    }
}

let instanceHealthCommand = Command(
    spec: CommandSpec(
        "instance health", arguments: "<name>", summary: "Show whether an instance does its work",
        details:
            "Prints what the checks of --health-cmd have found: starting, healthy or unhealthy. The exit status is 0 where it is healthy, and 1 otherwise.",
        examples: ["singularity instance health db", "singularity instance health --wait=2m db && ./migrate"],
        options: [
            OptionSpec("wait", "w", .optionalValue("time"), "wait until it is healthy, at most so long (default 60s)"),
            OptionSpec("json", "j", .flag, "print JSON"), Instances.userOption,
        ], argumentCount: 1...1)
) { parsed, log in
    try InstanceHealth.show(parsed)
}
