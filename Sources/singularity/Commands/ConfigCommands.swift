import CommandSyntax
import Glibc
import Linux
import Messages
import Runtime

/// The configuration that a command works with.
enum ConfigurationFile {
    /// --config, set once before a command runs.
    nonisolated(unsafe) static var given: String?

    static func load() throws -> Configuration {
        try Configuration.load(given: given ?? Environment.setting("CONFIG_FILE"), userFolder: UserFolders.configuration)
    }
}

let configCommands = [
    Command(
        spec: CommandSpec(
            "config global", arguments: "[directive] [value...]", summary: "Read or change singularity.conf",
            details:
                "Root changes \(Configuration.systemPath); other users change their own ~/.singularity/singularity.conf, whose directives replace those of the system's.",
            examples: [
                "singularity config global --get 'mount dev'", "singularity config global --set 'bind path' /data,/scratch",
                "singularity config global --dry-run",
            ],
            options: [
                OptionSpec("get", "g", .flag, "print the value"), OptionSpec("set", "s", .flag, "set the value, or add one to a list"),
                OptionSpec("unset", "u", .flag, "remove a value from a list"), OptionSpec("reset", "r", .flag, "back to the default"),
                OptionSpec("dry-run", "d", .flag, "print the resulting file and change nothing"),
            ], argumentCount: 0...Int.max)
    ) { parsed, log in
        try changeConfiguration(parsed)
    },
    Command(
        spec: CommandSpec(
            "config fakeroot", arguments: "<user>", summary: "Give a user the ids that --fakeroot uses (root only)",
            examples: ["singularity config fakeroot --add alice"],
            options: [
                OptionSpec("add", "a", .flag, "give 65536 ids that nobody has"), OptionSpec("remove", "r", .flag, "take them away"),
                OptionSpec("disable", "d", .flag, "disable them with a ! before the name"),
                OptionSpec("enable", "e", .flag, "enable them again"),
            ], argumentCount: 1...1)
    ) { parsed, log in
        guard getuid() == 0 else { throw CommandError("config fakeroot requires root: it changes /etc/subuid and /etc/subgid") }
        let actions = ["add", "remove", "disable", "enable"].filter { parsed.has($0) }
        guard actions.count == 1, let action = actions.first else {
            throw CommandError("config fakeroot: give one of --add, --remove, --disable and --enable")
        }
        let user = parsed.arguments[0]
        guard getpwnam(user) != nil else { throw CommandError("there is no user \(user)") }
        for path in ["/etc/subuid", "/etc/subgid"] { try SubordinateFile(path).change(action, user) }
        return 0
    },
]

private func changeConfiguration(_ parsed: ParsedArguments) throws -> Int32 {
    let actions = ["get", "set", "unset", "reset"].filter { parsed.has($0) }
    var configuration = try ConfigurationFile.load()
    if actions.isEmpty && parsed.has("dry-run") {
        print(configuration.text, terminator: "")
        return 0
    }
    guard actions.count == 1, let action = actions.first, let name = parsed.arguments.first else {
        throw CommandError("config global: give one of --get, --set, --unset and --reset, and a directive; --dry-run alone prints all")
    }
    guard let directive = Configuration.directives.first(where: { $0.name == name }) else {
        throw CommandError("there is no directive \"\(name)\"; `singularity config global --dry-run` prints all of them")
    }
    let values = parsed.arguments.dropFirst().flatMap { $0.split(separator: ",").map(String.init) }
    let isList = directive.kind == .list || directive.kind == .repeated
    switch action {
    case "get":
        print(configuration.values(name).joined(separator: ","))
        return 0
    case "set":
        guard !values.isEmpty else { throw CommandError("config global --set \(name): give a value") }
        let old = isList ? configuration.values(name) : []
        try configuration.set(name, to: isList ? old + values.filter { !old.contains($0) } : [values.joined(separator: ",")])
    case "unset":
        guard isList else { throw CommandError("config global --unset \(name): it is no list; --reset takes the value back") }
        try configuration.set(name, to: configuration.values(name).filter { !values.contains($0) })
    default: configuration.reset(name)
    }
    if parsed.has("dry-run") {
        print(configuration.text, terminator: "")
        return 0
    }
    let path = ConfigurationFile.given ?? (getuid() == 0 ? Configuration.systemPath : UserFolders.configuration + "/singularity.conf")
    let folder = path.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }
    try Files.makeDirectories(folder, mode: getuid() == 0 ? 0o755 : 0o700)
    try Files.replace(path, with: Array(configuration.changedText.utf8), mode: 0o644)
    return 0
}

let capabilityCommands = [
    Command(
        spec: CommandSpec(
            "capability list", arguments: "[user or group]", summary: "List the capabilities that root's containers and users were given",
            options: [], argumentCount: 0...1)
    ) { parsed, log in
        let file = CapabilityFile.load()
        let rows = (file.users ?? [:]).map { ($0.key, "user", $0.value) } + (file.groups ?? [:]).map { ($0.key, "group", $0.value) }
        let wanted = rows.filter { row in parsed.arguments.first.map { $0 == row.0 } ?? true }.sorted { ($0.0, $0.1) < ($1.0, $1.1) }
        if wanted.isEmpty { throw CommandError("no capability set for \(parsed.arguments.first ?? "users or groups")") }
        for (name, kind, words) in wanted { print("\(name) [\(kind)]: \(words.joined(separator: ","))") }
        return 0
    },
    Command(
        spec: CommandSpec(
            "capability avail", arguments: "[capability]", summary: "List the capabilities that this kernel knows", options: [],
            argumentCount: 0...1)
    ) { parsed, log in
        guard let word = parsed.arguments.first else {
            for name in CapabilitySet.full.names { print(name) }
            return 0
        }
        guard let set = CapabilitySet(named: word) else { throw CommandError("there is no capability \(word)") }
        for name in set.names { print(name) }
        return 0
    },
    capabilityChange("add") { old, new in old + new.filter { !old.contains($0) } },
    capabilityChange("drop") { old, new in old.filter { !new.contains($0) } },
]

private func capabilityChange(_ verb: String, _ change: @escaping @Sendable ([String], [String]) -> [String]) -> Command {
    Command(
        spec: CommandSpec(
            "capability \(verb)", arguments: "<capabilities>", summary: "\(verb == "add" ? "Give" : "Take") capabilities (root only)",
            details: "The list of root is used where the configuration says `root default capabilities = file`.",
            options: [
                OptionSpec("user", "u", .value("name"), "of a user", environment: ["CAP_USER"]),
                OptionSpec("group", "g", .value("name"), "of a group", environment: ["CAP_GROUP"]),
            ], argumentCount: 1...1)
    ) { parsed, log in
        guard getuid() == 0 else { throw CommandError("capability \(verb) requires root: it changes \(CapabilityFile.path)") }
        guard (parsed["user"] == nil) != (parsed["group"] == nil) else { throw CommandError("capability \(verb): give --user or --group") }
        var names: [String] = []
        for word in parsed.arguments[0].split(separator: ",") {
            guard let set = CapabilitySet(named: String(word)) else { throw CommandError("there is no capability \(word)") }
            names += set.names
        }
        var file = CapabilityFile.load()
        if let user = parsed["user"] {
            guard getpwnam(user) != nil else { throw CommandError("there is no user \(user)") }
            file.users = (file.users ?? [:]).merging([user: change(file.users?[user] ?? [], names)]) { _, new in new }
        }
        if let group = parsed["group"] {
            guard getgrnam(group) != nil else { throw CommandError("there is no group \(group)") }
            file.groups = (file.groups ?? [:]).merging([group: change(file.groups?[group] ?? [], names)]) { _, new in new }
        }
        try file.save()
        return 0
    }
}
