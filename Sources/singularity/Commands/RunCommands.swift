import CommandSyntax
import Glibc
import Linux
import Messages
import Runtime

let execCommand = Command(
    spec: CommandSpec(
        "exec", arguments: "<image> <command> [arguments...]", summary: "Run a command in a container",
        details: imageDetails + "\n\nThe command is looked up in the container's PATH; its exit status is that of this program.",
        examples: ["singularity exec deb.sif cat /etc/os-release", "singularity exec --bind /data:/mnt:ro deb.sif ls /mnt"],
        options: Running.options, argumentCount: 2...Int.max, stopsAtFirstArgument: true)
) { parsed, log in
    try start(parsed, .exec(Array(parsed.arguments.dropFirst())), log)
}

let runCommand = Command(
    spec: CommandSpec(
        "run", arguments: "<image> [arguments...]", summary: "Run what the image is made for",
        details: imageDetails + "\n\nStarts the image's run script, or the ENTRYPOINT and CMD of an OCI image, with the arguments.",
        examples: ["singularity run app.sif --version", "./app.sif --version"],
        options: Running.options, argumentCount: 1...Int.max, stopsAtFirstArgument: true)
) { parsed, log in
    try start(parsed, .run(Array(parsed.arguments.dropFirst())), log)
}

let shellCommand = Command(
    spec: CommandSpec(
        "shell", arguments: "<image>", summary: "Start a shell in a container", details: imageDetails,
        examples: ["singularity shell deb.sif"],
        options: Running.options + [Running.shellOption], argumentCount: 1...Int.max, stopsAtFirstArgument: true)
) { parsed, log in
    if parsed.arguments.count > 1 { log.warning("Parameters to shell command are ignored") }
    return try start(parsed, .shell(parsed["shell"]), log)
}

let testCommand = Command(
    spec: CommandSpec(
        "test", arguments: "<image> [arguments...]", summary: "Run the image's own test", details: imageDetails,
        examples: ["singularity test app.sif"],
        options: Running.options, argumentCount: 1...Int.max, stopsAtFirstArgument: true)
) { parsed, log in
    try start(parsed, .test(Array(parsed.arguments.dropFirst())), log)
}

private let imageDetails = """
    The image is a SIF file, a SquashFS file, a directory, or an address such as docker://debian:12, which is fetched \
    into the cache first.
    """

/// Becomes the program in the container.
private func start(_ parsed: ParsedArguments, _ action: RunOptions.Action, _ log: Log) throws -> Int32 {
    let given = parsed.arguments[0]
    let image = try RunnableImage.path(of: given, parsed, log)
    let options = try Running.options(parsed, image: image, action: action)
    try Launcher(options, .current(), extractionFolder: UserFolders.cache + "/rootfs", log).launch()
}
