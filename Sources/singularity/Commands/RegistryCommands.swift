import Build
import CommandSyntax
import Glibc
import Linux
import Messages
import Registry

let registryCommands = [
    Command(
        spec: CommandSpec(
            "registry login", arguments: "<registry>", summary: "Log in to a registry",
            details: """
                Asks for what is not given, tries it, and keeps it in ~/.singularity/docker-config.json, or in the file that --authfile
                names. The registry is docker://host or oras://host, or the host alone.
                """,
            examples: [
                "singularity registry login docker://ghcr.io", "pass show ghcr | singularity registry login -u me --password-stdin ghcr.io",
            ],
            options: [
                OptionSpec("username", "u", .value("name"), "who logs in", environment: ["LOGIN_USERNAME"]),
                OptionSpec(
                    "password", "p", .value("text"), "password or token (others can see it; --password-stdin they cannot)",
                    environment: ["LOGIN_PASSWORD"]),
                OptionSpec("password-stdin", nil, .flag, "read the password from standard input"),
                LoginPlace.authFile,
                OptionSpec(
                    "no-https", nil, .flag, "use http where the registry has no https", aliases: ["nohttps"],
                    environment: ["NOHTTPS", "NO_HTTPS"]),
            ], argumentCount: 1...1)
    ) { parsed, log in
        let registry = try LoginPlace.registry(parsed.arguments[0])
        let (user, password) = try LoginPlace.credential(parsed, log)
        let client = RegistryClient(
            credentials: CredentialStore(explicit: .basic(user: user, password: password), home: UserFolders.home),
            allowHTTP: parsed.has("no-https"), mirrors: try Mirrors(home: UserFolders.home), cacheFolder: UserFolders.cache + "/blob")
        try Blocking.run {
            try await client.checkLogin(registry)
            await client.shutdown()
        }
        let file = LoginPlace.file(parsed)
        try file.add(registry, user: user, password: password)
        log.info("Token stored in \(file.path)")
        return 0
    },
    Command(
        spec: CommandSpec(
            "registry logout", arguments: "<registry>", summary: "Forget the login to a registry", options: [LoginPlace.authFile],
            argumentCount: 1...1)
    ) { parsed, log in
        let registry = try LoginPlace.registry(parsed.arguments[0])
        let file = LoginPlace.file(parsed)
        guard try file.remove(registry) else { throw CommandError("nobody is logged in to \(registry) in \(file.path)") }
        log.info("Token removed from \(file.path)")
        return 0
    },
    Command(
        spec: CommandSpec(
            "registry list", arguments: "", summary: "List the registries that there are logins to", options: [LoginPlace.authFile],
            argumentCount: 0...0)
    ) { parsed, _ in
        let addresses = try LoginPlace.file(parsed).registries.map { "docker://\($0)" }
        let width = max(3, addresses.map(\.count).max() ?? 0) + 2
        func padded(_ text: String) -> String { text + String(repeating: " ", count: width - text.count) }
        print("\n\(padded("URI"))SECURE?")
        for address in addresses { print("\(padded(address))✓") }
        return 0
    },
]

/// Where a login is kept, and of whom.
private enum LoginPlace {
    static let authFile = OptionSpec("authfile", nil, .value("path"), "file with the logins, of Docker's form", environment: ["AUTH_FILE"])

    static func file(_ parsed: ParsedArguments) -> LoginFile {
        LoginFile(parsed["authfile"] ?? UserFolders.configuration + "/docker-config.json")
    }

    /// The host with its port.
    static func registry(_ address: String) throws -> String {
        var host = Substring(address)
        for scheme in ["docker://", "oras://", "https://"] where host.hasPrefix(scheme) { host = host.dropFirst(scheme.count) }
        while host.hasSuffix("/") { host = host.dropLast() }
        guard !host.isEmpty, !host.contains("/"), !host.contains("@") else {
            throw CommandError("\(address) is no registry; give docker://host, oras://host, or the host alone")
        }
        // The rules for hosts are those of image names.
        _ = try ImageReference("\(host.contains(".") || host.contains(":") ? host : "localhost")/name")
        return String(host)
    }

    static func credential(_ parsed: ParsedArguments, _ log: Log) throws -> (user: String, password: String) {
        let isPiped = parsed.has("password-stdin")
        guard let user = try parsed["username"] ?? askUser(isPiped), !user.isEmpty else { throw CommandError("a user name is needed: -u") }
        guard !user.contains(":") else { throw CommandError("-u \(user): a user name has no colon") }
        var password: String
        if isPiped {
            password = String((readLine() ?? ""))
        } else if let given = parsed["password"] {
            if Environment.setting("LOGIN_PASSWORD") == nil {
                log.warning("a password on the command line can be seen by others; --password-stdin cannot")
            }
            password = given
        } else {
            password = try Terminal.askSecret("Password / Token: ", instead: "use --password-stdin").withBytes {
                String(decoding: $0, as: UTF8.self)
            }
        }
        while password.hasSuffix("\r") { password.removeLast() }
        guard !password.isEmpty else { throw CommandError("the password is empty") }
        return (user, password)
    }

    private static func askUser(_ isPiped: Bool) throws -> String? {
        if isPiped || isatty(0) == 0 { throw CommandError("there is no terminal to ask for a user name; use -u") }
        return Terminal.ask("Username: ")
    }
}
