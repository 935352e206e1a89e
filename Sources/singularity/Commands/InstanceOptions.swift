import CommandSyntax
import Messages
import Runtime

/// Options of `instance start` and `instance run` only: how an instance is kept.
enum InstanceOptions {
    static let all = [
        OptionSpec("pid-file", nil, .value("path"), "write the number of the first process to a file", environment: ["PID_FILE"]),
        OptionSpec("boot", nil, .flag, "start the image's /sbin/init (root only)", environment: ["BOOT"]),
        OptionSpec(
            "restart", nil, .value("policy"), "start the program again when it ends: no, on-failure, on-failure:COUNT or always",
            environment: ["RESTART"]),
        OptionSpec(
            "health-cmd", nil, .value("command"), "for the container's /bin/sh: ends with 0 as long as all is well; none for no check",
            environment: ["HEALTH_CMD"]),
        OptionSpec(
            "health-interval", nil, .value("time"), "time between checks, such as 500ms, 30s or 5m (default 30s)",
            environment: ["HEALTH_INTERVAL"]),
        OptionSpec(
            "health-timeout", nil, .value("time"), "time after which a check has failed (default 30s)", environment: ["HEALTH_TIMEOUT"]),
        OptionSpec(
            "health-start-period", nil, .value("time"), "time to get ready, in which failures do not count (default 30s)",
            environment: ["HEALTH_START_PERIOD"]),
        OptionSpec(
            "health-retries", nil, .value("number"), "failures in a row that make it unhealthy (default 3)",
            environment: ["HEALTH_RETRIES"]),
        OptionSpec(
            "health-on-failure", nil, .value("action"), "what is done when it is unhealthy: none, restart the program, or stop",
            environment: ["HEALTH_ON_FAILURE"]),
        OptionSpec(
            "log-max-size", nil, .value("size"), "begin a new log file when this one is full, such as 10m", environment: ["LOG_MAX_SIZE"]),
        OptionSpec(
            "log-max-files", nil, .value("number"), "log files that are kept (default \(LogLimit.usualFiles))",
            environment: ["LOG_MAX_FILES"]),
    ]

    static func settings(_ parsed: ParsedArguments, name: String) throws -> InstanceSettings {
        var settings = InstanceSettings(name: name)
        settings.pidFile = parsed["pid-file"]
        settings.restart = try InstanceSettings.restart(parsed["restart"] ?? "no")
        settings.health = try health(parsed)
        settings.ignoresImageHealth = parsed["health-cmd"] == "none"
        settings.logLimit = try logLimit(parsed)
        return settings
    }

    private static func health(_ parsed: ParsedArguments) throws -> HealthCheck? {
        guard let command = parsed["health-cmd"], !command.isEmpty, command != "none" else {
            let others = ["health-interval", "health-timeout", "health-start-period", "health-retries", "health-on-failure"]
            if let option = others.first(where: { parsed.isGiven($0) }) { throw CommandError("--\(option) needs --health-cmd") }
            return nil
        }
        if parsed.has("boot") { throw CommandError("--health-cmd: with --boot the image's own init looks after its services") }
        var check = HealthCheck(command: command)
        func time(_ option: String, _ usual: Int, atLeast least: Int) throws -> Int {
            guard let text = parsed[option] else { return usual }
            guard let time = HealthCheck.milliseconds(text), time >= least else {
                throw CommandError("--\(option) \(text): give a time such as 500ms, 30s or 5m")
            }
            return time
        }
        check.interval = try time("health-interval", check.interval, atLeast: 10)
        check.timeout = try time("health-timeout", check.timeout, atLeast: 10)
        check.startPeriod = try time("health-start-period", check.startPeriod, atLeast: 0)
        if let text = parsed["health-retries"] {
            guard let number = Int(text), number > 0 else { throw CommandError("--health-retries \(text): give a number from 1 on") }
            check.retries = number
        }
        if let text = parsed["health-on-failure"] {
            guard let consequence = HealthCheck.Consequence(rawValue: text) else {
                throw CommandError("--health-on-failure \(text): choose none, restart or stop")
            }
            check.consequence = consequence
        }
        return check
    }

    private static func logLimit(_ parsed: ParsedArguments) throws -> LogLimit? {
        guard let text = parsed["log-max-size"] else {
            if parsed.isGiven("log-max-files") { throw CommandError("--log-max-files needs --log-max-size") }
            return nil
        }
        guard let size = ByteCount.bytes(text).flatMap({ Int(exactly: $0) }), size >= LogLimit.smallest else {
            throw CommandError("--log-max-size \(text): give a size of \(LogLimit.smallest) bytes or more, such as 10m")
        }
        guard let files = Int(parsed["log-max-files"] ?? String(LogLimit.usualFiles)), (1...1000).contains(files) else {
            throw CommandError("--log-max-files \(parsed["log-max-files"] ?? ""): give a number from 1 to 1000")
        }
        return LogLimit(size: size, files: files)
    }
}
