import CommandSyntax
import Linux
import Runtime

/// What the scheduler's commands are in a container that was started with --scheduler.
let hostRunCommand = Command(
    spec: CommandSpec(
        "host-run", arguments: "<command> [arguments...]", summary: "Run a command of the scheduler on the host, from within a container",
        argumentCount: 1...Int.max, stopsAtFirstArgument: true, hidden: true)
) { parsed, _ in
    try HostCommandClient.run(parsed.arguments[0], Array(parsed.arguments.dropFirst()), variables: Environment.pairs)
}
