import Build
import CommandSyntax
import Glibc
import Linux

let versionCommand = Command(
    spec: CommandSpec("version", arguments: "", summary: "Print the version", argumentCount: 0...0)
) { _, _ in
    print(ProgramVersion.text)
    return 0
}

let completionCommand = Command(
    spec: CommandSpec(
        "completion", arguments: "<bash|zsh|fish>", summary: "Print a completion script for a shell",
        examples: ["singularity completion bash > ~/.local/share/bash-completion/completions/singularity"],
        argumentCount: 1...1)
) { parsed, _ in
    guard let script = Completion(Program.spec).script(for: parsed.arguments[0]) else {
        throw CommandError(
            "there is no completion for \"\(parsed.arguments[0])\"; choose one of \(Completion.shells.joined(separator: ", "))")
    }
    print(script, terminator: "")
    return 0
}

let manualCommand = Command(
    spec: CommandSpec(
        "man", arguments: "<directory>", summary: "Write the manual pages into a directory", argumentCount: 1...1, hidden: true)
) { parsed, _ in
    try Files.makeDirectories(parsed.arguments[0])
    for page in ManualPage(Program.spec, version: ProgramVersion.text).pages {
        try Files.replace("\(parsed.arguments[0])/\(page.name)", with: Array(page.text.utf8))
    }
    return 0
}
