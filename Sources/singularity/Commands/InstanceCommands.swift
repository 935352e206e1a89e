import CommandSyntax
import Glibc
import Linux
import Messages
import Runtime

/// What the commands of instances share.
enum Instances {
    static func store(of user: String? = nil) throws -> InstanceStore {
        let own = getpwuid(getuid()).map { String(cString: $0.pointee.pw_name) } ?? String(getuid())
        guard let user, user != own else { return InstanceStore(configuration: UserFolders.configuration, user: own) }
        guard getuid() == 0 else { throw CommandError("Only root user can look at or stop the instances of others") }
        guard let entry = getpwnam(user) else { throw CommandError("--user \(user): there is no such user") }
        return InstanceStore(configuration: String(cString: entry.pointee.pw_dir) + "/.singularity", user: user)
    }

    /// A table with columns at least 8 wide and 4 blanks between them, as the peers print it.
    static func table(_ rows: [[String]]) -> String {
        var widths: [Int] = []
        for row in rows {
            for (index, cell) in row.enumerated() {
                if index == widths.count { widths.append(0) }
                widths[index] = max(widths[index], cell.count)
            }
        }
        return rows.map { row in
            row.enumerated().map { index, cell in
                index == row.count - 1 ? cell : cell + String(repeating: " ", count: max(8, widths[index] + 4) - cell.count)
            }.joined() + "\n"
        }.joined()
    }

    /// The one instance of a name, which may begin with `instance://`.
    static func running(_ given: String, _ parsed: ParsedArguments) throws -> InstanceRecord {
        let name = given.hasPrefix("instance://") ? String(given.dropFirst("instance://".count)) : given
        guard let record = try store(of: parsed["user"]).running(name).first else {
            throw CommandError("no instance \(name) runs; `singularity instance list` shows those that do")
        }
        return record
    }

    static let userOption = OptionSpec("user", "u", .value("name"), "instances of another user (root only)", environment: ["USER"])

    static func start(_ parsed: ParsedArguments, _ action: RunOptions.Action, _ log: Log) throws -> Int32 {
        let image = try RunnableImage.path(of: parsed.arguments[0], parsed, log)
        var options = try Running.options(parsed, image: image, action: action, log)
        let settings = try InstanceOptions.settings(parsed, name: parsed.arguments[1])
        options.instance = settings
        // The others of its group call it so, where that can be a host's name.
        if options.group != nil, options.hostName == nil { options.hostName = try? Running.hostName(settings.name) }
        if parsed.has("boot") {
            options.boots = true
            options.action = .exec(["/sbin/init"])
            options.contain = true
            options.newUTS = true
            options.hostName = options.hostName ?? settings.name
        }
        let facts = HostFacts.current()
        let launcher = Launcher(options, facts, extractionFolder: UserFolders.cache + "/rootfs", log)
        if parsed.has("explain") { return try Running.explain(launcher, parsed) }
        let status = try InstanceStart.start(options, facts, in: store(), command: Array(CommandLine.arguments.dropFirst()), log) { start in
            try launcher.launch(start)
        }
        if status == 0 { log.info("instance started successfully") }
        return status
    }
}

let instanceCommands = [
    Command(
        spec: CommandSpec(
            "instance start", arguments: "<image> <name> [arguments...]", summary: "Start a container that stays in the background",
            details: "Runs the image's start script. The instance stays until it is stopped, also where the script ends with success.",
            examples: ["singularity instance start --bind /data db.sif db", "singularity exec instance://db psql"],
            options: Running.options + InstanceOptions.all, argumentCount: 2...Int.max, stopsAtFirstArgument: true)
    ) { parsed, log in
        try Instances.start(parsed, .start(Array(parsed.arguments.dropFirst(2))), log)
    },
    Command(
        spec: CommandSpec(
            "instance run", arguments: "<image> <name> [arguments...]", summary: "Run an image's run script in the background",
            examples: ["singularity instance run docker://nginx web"],
            options: Running.options + InstanceOptions.all, argumentCount: 2...Int.max, stopsAtFirstArgument: true)
    ) { parsed, log in
        try Instances.start(parsed, .run(Array(parsed.arguments.dropFirst(2))), log)
    },
    Command(
        spec: CommandSpec(
            "instance list", arguments: "[name or pattern]", summary: "List the instances that run",
            examples: ["singularity instance list 'web*'"],
            options: [
                OptionSpec("json", "j", .flag, "print JSON"),
                OptionSpec("logs", "l", .flag, "print where the output goes", environment: ["LOGS"]),
                Instances.userOption, OptionSpec("all", "a", .flag, "accepted; all are listed", hidden: true),
            ], argumentCount: 0...1)
    ) { parsed, log in
        if parsed.has("json") && parsed.has("logs") {
            throw CommandError("--json and --logs cannot be used together; --json prints the logs too")
        }
        let store = try Instances.store(of: parsed["user"])
        let records = store.running(parsed.arguments.first)
        let health = records.map { store.health(of: $0)?.state.rawValue }
        if parsed.has("json") {
            let values = zip(records, health).map { record, health in
                JSONValue.object(
                    [
                        ("instance", .string(record.name)), ("pid", .number(Int(record.pid))), ("img", .string(record.image)),
                        ("ip", .string(record.ip)), ("logErrPath", .string(record.logErrPath)), ("logOutPath", .string(record.logOutPath)),
                    ] + (health.map { [("health", .string($0))] } ?? []) + (record.group.map { [("group", .string($0))] } ?? []))
            }
            print(JSONValue.object([("instances", .array(values))]).indented)
        } else if parsed.has("logs") {
            let rows = records.flatMap { [[$0.name, String($0.pid), $0.logErrPath], ["", "", $0.logOutPath]] }
            print(Instances.table([["INSTANCE NAME", "PID", "LOGS"]] + rows), terminator: "")
        } else {
            // The peers' columns, unless there is more to say.
            let isChecked = health.contains { $0 != nil }
            let rows = zip(records, health).map { record, health in
                [record.name, String(record.pid), record.ip, record.image] + (isChecked ? [health ?? "-"] : [])
            }
            print(Instances.table([["INSTANCE NAME", "PID", "IP", "IMAGE"] + (isChecked ? ["HEALTH"] : [])] + rows), terminator: "")
        }
        return 0
    },
    Command(
        spec: CommandSpec(
            "instance stop", arguments: "[name or pattern]", summary: "Stop instances",
            examples: ["singularity instance stop web", "singularity instance stop --all"],
            options: [
                OptionSpec("all", "a", .flag, "stop all", environment: ["ALL"]),
                OptionSpec("force", "F", .flag, "kill at once", environment: ["FORCE"]),
                OptionSpec("signal", "s", .value("signal"), "signal to send (default SIGINT)", environment: ["SIGNAL"]),
                OptionSpec("timeout", "t", .value("seconds"), "seconds until it is killed (default 10)"), Instances.userOption,
            ], argumentCount: 0...1)
    ) { parsed, log in
        guard parsed.has("all") || !parsed.arguments.isEmpty else {
            throw ReportedFailure(message: "no instance name or pattern was given; --all stops all")
        }
        let signal = parsed.has("force") ? SIGKILL : try parsed["signal"].map(SignalName.number) ?? SIGINT
        guard let seconds = Int(parsed["timeout"] ?? "10"), seconds >= 0 else {
            throw CommandError("--timeout \(parsed["timeout"] ?? ""): give a number of seconds")
        }
        let store = try Instances.store(of: parsed["user"])
        let records = store.running(parsed.arguments.first)
        if records.isEmpty {
            if parsed.has("all") { return 0 }
            throw ReportedFailure(message: "no instance found with name \(parsed.arguments.first ?? "")")
        }
        var status: Int32 = 0
        for record in records {
            log.info("Stopping \(record.name) instance of \(record.image) (PID=\(record.pid))")
            if !InstanceStop.stop(record, signal: signal, seconds: seconds, in: store) {
                log.error("the instance \(record.name) could not be stopped")
                status = 1
            }
        }
        return status
    },
    Command(
        spec: CommandSpec(
            "instance logs", arguments: "<name>", summary: "Print what an instance has written",
            options: [
                OptionSpec("stderr", "e", .flag, "what it has written to standard error"),
                OptionSpec("follow", "f", .flag, "go on until the instance ends"),
                OptionSpec("tail", nil, .value("lines"), "the last lines only; all is the default"),
            ], argumentCount: 1...1)
    ) { parsed, log in
        let record = try Instances.store().find(parsed.arguments[0])
        let lines = try parsed["tail"].flatMap { text in
            guard text != "all" else { return Int?.none }
            guard let number = Int(text), number >= 0 else { throw CommandError("--tail \(text): give a number of lines, or all") }
            return number
        }
        try InstanceLogs(record, errors: parsed.has("stderr")).write(to: 1, last: lines, follows: parsed.has("follow"))
        return 0
    },
    instanceHealthCommand,
    Command(
        spec: CommandSpec(
            "instance stats", arguments: "<name>", summary: "Show what an instance takes of the machine",
            options: [
                OptionSpec("json", "j", .flag, "print JSON"), OptionSpec("no-stream", nil, .flag, "print once"), Instances.userOption,
            ],
            argumentCount: 1...1)
    ) { parsed, log in
        let record: InstanceRecord
        do { record = try Instances.store(of: parsed["user"]).find(parsed.arguments[0]) } catch {
            throw ReportedFailure(message: "\(error)")
        }
        try InstanceStatistics.show(record, json: parsed.has("json"), once: parsed.has("no-stream") || parsed.has("json"), log)
        return 0
    },
    Command(
        spec: CommandSpec(
            "instance unit", arguments: "<name>", summary: "Print a systemd user unit that starts an instance again",
            details:
                "The unit starts the running instance NAME as it was started, with the user's session or with the machine (loginctl enable-linger).",
            examples: [
                "singularity instance unit db > ~/.config/systemd/user/singularity-db.service", "systemctl --user enable singularity-db",
            ],
            argumentCount: 1...1)
    ) { parsed, log in
        let record = try Instances.store().find(parsed.arguments[0])
        guard let settings = record.settings else { throw CommandError("the instance \(record.name) doesn't say how it was started") }
        print(SystemdUnit(record, settings, program: Files.readLink("/proc/self/exe") ?? "singularity").text, terminator: "")
        return 0
    },
]

/// Signals by name or number.
enum SignalName {
    private static let names: [(String, CInt)] = [
        ("HUP", SIGHUP), ("INT", SIGINT), ("QUIT", SIGQUIT), ("ABRT", SIGABRT), ("KILL", SIGKILL), ("USR1", SIGUSR1), ("USR2", SIGUSR2),
        ("ALRM", SIGALRM), ("TERM", SIGTERM), ("CONT", SIGCONT), ("STOP", SIGSTOP), ("TSTP", SIGTSTP), ("WINCH", SIGWINCH),
        ("PIPE", SIGPIPE),
    ]

    static func number(_ text: String) throws -> CInt {
        if let number = CInt(text), (1...64).contains(number) { return number }
        let upper = text.uppercased()
        let name = upper.hasPrefix("SIG") ? String(upper.dropFirst(3)) : upper
        guard let found = names.first(where: { $0.0 == name }) else {
            throw CommandError("--signal \(text): there is no such signal; give a number, or a name such as TERM")
        }
        return found.1
    }
}

/// `instance stats`: a live table, or one object of the form that libcontainer's users know.
enum InstanceStatistics {
    static func show(_ record: InstanceRecord, json: Bool, once: Bool, _ log: Log) throws {
        var last = InstanceUsage(record)
        if json {
            print(text(last).indented)
            return
        }
        log.info("Stats for \(record.name) instance of \(record.image) (PID=\(record.pid))")
        while true {
            usleep(once ? 200_000 : 1_000_000)
            guard record.isAlive else { return }
            let now = InstanceUsage(record)
            let elapsed = Double(max(1, now.time - last.time))
            let used = Double(now.cpuTime >= last.cpuTime ? now.cpuTime - last.cpuTime : 0) / elapsed * 100
            let share = now.memoryLimit == 0 ? 0 : Double(now.memory) / Double(now.memoryLimit) * 100
            let row = [
                record.name, percent(used), "\(size(now.memory)) / \(size(now.memoryLimit))", percent(share),
                "\(size(now.blockRead)) / \(size(now.blockWritten))", String(now.processes),
            ]
            if !once { print("\u{1b}[H\u{1b}[2J", terminator: "") }
            print(
                Instances.table([["INSTANCE NAME", "CPU USAGE", "MEM USAGE / LIMIT", "MEM %", "BLOCK I/O", "PIDS"], row]), terminator: "")
            fflush(nil)
            if once { return }
            last = now
        }
    }

    private static func text(_ usage: InstanceUsage) -> JSONValue {
        func number(_ value: UInt64) -> JSONValue { .number(Int(clamping: value)) }
        return .object([
            ("cpu_stats", .object([("cpu_usage", .object([("total_usage", number(usage.cpuTime))]))])),
            ("memory_stats", .object([("usage", .object([("usage", number(usage.memory)), ("limit", number(usage.memoryLimit))]))])),
            ("pids_stats", .object([("current", .number(usage.processes))])),
            (
                "blkio_stats",
                .object([
                    (
                        "io_service_bytes_recursive",
                        .array([
                            .object([("op", .string("Read")), ("value", number(usage.blockRead))]),
                            .object([("op", .string("Write")), ("value", number(usage.blockWritten))]),
                        ])
                    )
                ])
            ),
        ])
    }

    private static func percent(_ value: Double) -> String {
        let hundredths = Int(value * 100 + 0.5)
        let rest = hundredths % 100
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)%"
    }

    /// With units of 1024, such as 1.2MiB.
    private static func size(_ bytes: UInt64) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(bytes)
        var index = 0
        while value >= 1024 && index < units.count - 1 {
            value /= 1024
            index += 1
        }
        if index == 0 { return "\(bytes)B" }
        let tenths = Int(value * 10 + 0.5)
        return tenths % 10 == 0 ? "\(tenths / 10)\(units[index])" : "\(tenths / 10).\(tenths % 10)\(units[index])"
    }
}
