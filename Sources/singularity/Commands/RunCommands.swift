import CommandSyntax
import Glibc
import Linux
import Messages
import Runtime

let execCommand = Command(
    spec: CommandSpec(
        "exec", arguments: "<image> <command> [arguments...]", summary: "Run a command in a container",
        details: Running.imageDetails + "\n\nThe command is looked up in the container's PATH; its exit status is that of this program.",
        examples: [
            "singularity exec deb.sif cat /etc/os-release", "singularity exec --bind /data:/mnt:ro deb.sif ls /mnt",
            "singularity exec instance://web ps aux", "singularity exec --explain deb.sif true",
        ],
        options: Running.options, argumentCount: 2...Int.max, stopsAtFirstArgument: true)
) { parsed, log in
    try Running.start(parsed, .exec(Array(parsed.arguments.dropFirst())), log)
}

let runCommand = Command(
    spec: CommandSpec(
        "run", arguments: "<image> [arguments...]", summary: "Run what the image is made for",
        details: Running.imageDetails + "\n\nStarts the image's run script, or the ENTRYPOINT and CMD of an OCI image, with the arguments.",
        examples: ["singularity run app.sif --version", "./app.sif --version"],
        options: Running.options, argumentCount: 1...Int.max, stopsAtFirstArgument: true)
) { parsed, log in
    try Running.start(parsed, .run(Array(parsed.arguments.dropFirst())), log)
}

let shellCommand = Command(
    spec: CommandSpec(
        "shell", arguments: "<image>", summary: "Start a shell in a container", details: Running.imageDetails,
        examples: ["singularity shell deb.sif", "singularity shell --login --containall deb.sif"],
        options: Running.options + Running.shellOptions, argumentCount: 1...Int.max, stopsAtFirstArgument: true)
) { parsed, log in
    if parsed.arguments.count > 1 { log.warning("Parameters to shell command are ignored") }
    return try Running.start(parsed, .shell(parsed["shell"], isLogin: parsed.has("login")), log)
}

let testCommand = Command(
    spec: CommandSpec(
        "test", arguments: "<image> [arguments...]", summary: "Run the image's own test", details: Running.imageDetails,
        examples: ["singularity test app.sif"],
        options: Running.options, argumentCount: 1...Int.max, stopsAtFirstArgument: true)
) { parsed, log in
    try Running.start(parsed, .test(Array(parsed.arguments.dropFirst())), log)
}

extension Running {
    static let imageDetails = """
        The image is a SIF file, a SquashFS file, an ext3 image, a directory, an address such as docker://debian:12, which is \
        fetched into the cache first, or instance://NAME.
        """

    static let instancePrefix = "instance://"

    /// Becomes the program in the container.
    static func start(_ parsed: ParsedArguments, _ action: RunOptions.Action, _ log: Log) throws -> Int32 {
        let given = parsed.arguments[0]
        if given.hasPrefix(instancePrefix) {
            try join(String(given.dropFirst(instancePrefix.count)), parsed, action, log)
        }
        let image = try RunnableImage.path(of: given, parsed, log)
        let options = try Running.options(parsed, image: image, action: action, log)
        let launcher = Launcher(options, .current(), extractionFolder: UserFolders.cache + "/rootfs", log)
        if parsed.has("explain") { return try explain(launcher, parsed) }
        try launcher.launch()
    }

    static func explain(_ launcher: Launcher, _ parsed: ParsedArguments) throws -> Int32 {
        let plan = try launcher.explanation()
        print(parsed.has("json") ? plan.explanationJSON(.current()) : plan.explanation(.current()), terminator: "")
        return 0
    }

    /// Becomes a program in an instance.
    private static func join(_ name: String, _ parsed: ParsedArguments, _ action: RunOptions.Action, _ log: Log) throws -> Never {
        let record = try Instances.store().find(name)
        if let wanted = parsed["verify"], wanted != "no", wanted != "false" {
            throw CommandError("--verify: the image of an instance is checked when it starts: `singularity instance start --verify`")
        }
        let without = [
            "bind", "mount", "overlay", "home", "scratch", "workdir", "network", "hostname", "memory", "cpus", "pids-limit",
            "apply-cgroups", "fusemount",
        ]
        for option in without where parsed.isGiven(option) {
            log.warning("--\(option) has no effect in an instance that runs already")
        }
        let options = try Running.options(parsed, image: record.image, action: action, log)
        try InstanceJoin(record, options, .current(), log).execute()
    }
}
