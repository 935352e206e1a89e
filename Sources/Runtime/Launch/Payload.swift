import CLinux
import Glibc
import Linux
import Messages

/// The program of a container. All paths are the container's: its root is the root directory of this process.
struct Payload {
    let action: RunOptions.Action
    let environment: EnvironmentScripts
    let log: Log

    private static let scripts = "/.singularity.d"

    /// Becomes the program.
    func execute() throws(RuntimeError) -> Never {
        let command = try self.command()
        guard let variables = try? environment.evaluate() else { try executeInShell(command) }
        guard let native = try nativeEntrypoint(command, variables) else { try execute(command, variables) }
        if native.isEmpty { exit(0) }
        try execute(native, variables)
    }

    /// Another program in the same environment.
    func with(_ action: RunOptions.Action) -> Payload { Payload(action: action, environment: environment, log: log) }

    // MARK: What to run

    /// Directory of the application that --app names.
    private var app: String? { environment.plan.app.isEmpty ? nil : "/scif/apps/" + environment.plan.app }

    /// Whether there is something to run: an instance needs no start script.
    var hasProgram: Bool {
        guard case .start = action else { return true }
        return Self.isFile(app.map { $0 + "/scif/startscript" } ?? Self.scripts + "/startscript")
    }

    private func command() throws(RuntimeError) -> [String] {
        if let app, !Files.isDirectory(app) {
            log.error("Could not locate the container application: \(environment.plan.app)")
            exit(1)
        }
        switch action {
        case .exec(let words): return words
        case .run(let arguments):
            let paths = app.map { [$0 + "/scif/runscript"] } ?? [Self.scripts + "/runscript", "/apptainer", "/singularity"]
            for path in paths where Self.isFile(path) { return [path] + arguments }
            log.info("No runscript found in container, executing /bin/sh")
            return ["/bin/sh"] + arguments
        case .test(let arguments):
            let path = app.map { $0 + "/scif/test" } ?? Self.scripts + "/test"
            if Self.isFile(path) { return [path] + arguments }
            log.info("No test script found in container, exiting")
            exit(0)
        case .start(let arguments): return [app.map { $0 + "/scif/startscript" } ?? Self.scripts + "/startscript"] + arguments
        case .shell(let wanted, let isLogin):
            if let wanted {
                if access(wanted, X_OK) == 0 { return [wanted] + (isLogin ? ["-l"] : []) }
                log.warning("--shell \(wanted): the container has no such program; another shell is started")
            }
            if isLogin, let shell = Self.loginShells.first(where: { access($0, X_OK) == 0 }) { return [shell, "-l"] }
            if access("/bin/bash", X_OK) == 0 { return ["/bin/bash", "--norc"] }
            if access("/bin/sh", X_OK) == 0 { return ["/bin/sh"] }
            log.error("no shell found in the container: it has neither /bin/bash nor /bin/sh; name one with --shell")
            exit(1)
        }
    }

    /// The caller's, as the container's accounts have it, and those that nearly every image has.
    private static var loginShells: [String] {
        let lines = ((try? Files.readText("/etc/passwd", limit: 1 << 24)) ?? "").split(separator: "\n")
        let uid = String(getuid())
        for line in lines {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count == 7, fields[2] == uid else { continue }
            let shell = String(fields[6])
            // Accounts that nobody logs in with have one of these.
            if !shell.hasPrefix("/") || shell.hasSuffix("/nologin") || shell.hasSuffix("/false") { break }
            return [shell, "/bin/bash", "/bin/sh"]
        }
        return ["/bin/bash", "/bin/sh"]
    }

    private static func isFile(_ path: String) -> Bool { Files.status(path).map { $0.st_mode & S_IFMT == S_IFREG } ?? false }

    /// The words of a run script that was made from an OCI image's ENTRYPOINT and CMD, where the image has no shell.
    private func nativeEntrypoint(_ command: [String], _ variables: [String: String]) throws(RuntimeError) -> [String]? {
        guard case .run(let arguments) = action, command.first == Self.scripts + "/runscript", access("/bin/sh", X_OK) != 0,
            let text = try? Files.readText(Self.scripts + "/runscript", limit: 1 << 20)
        else { return nil }
        return OCIRunscript(text)?.words(arguments: arguments, variables: variables, evaluates: environment.plan.evaluates)
    }

    // MARK: Becoming it

    private func execute(_ words: [String], _ variables: [String: String]) throws(RuntimeError) -> Never {
        var variables = variables
        if case .shell = action { variables["SHELL"] = words[0] }
        let path = try find(words[0], searchPath: variables["PATH"] ?? "")
        let environment = variables.map { "\($0.key)=\($0.value)" }
        Self.execve(path, words, environment)
        if errno == ENOEXEC {
            // A script without a first line that names its interpreter, as in POSIX's exec family.
            Self.execve("/bin/sh", ["/bin/sh", path] + words.dropFirst(), environment)
        }
        throw failure(path, errno)
    }

    private static func execve(_ path: String, _ words: [String], _ environment: [String]) {
        // Where it succeeds nothing is left, and where it fails little is tried again.
        var argv = words.map { Optional(RawText.copy($0)) } + [nil]
        var envp = environment.map { Optional(RawText.copy($0)) } + [nil]
        let file = RawText.copy(path)
        // The program has none of the keys that this process may have read.
        CoreDumps.allowAgain()
        _ = Glibc.execve(file, &argv, &envp)
    }

    private func find(_ name: String, searchPath: String) throws(RuntimeError) -> String {
        if name.contains("/") { return name }
        var refused: String?
        for folder in searchPath.split(separator: ":", omittingEmptySubsequences: false) {
            let path = (folder.isEmpty ? "." : String(folder)) + "/" + name
            guard Self.isFile(path) else { continue }
            if access(path, X_OK) == 0 { return path }
            refused = refused ?? path
        }
        if let refused { throw .notExecutable(refused, why: "permission denied") }
        throw .noCommand(name)
    }

    private func failure(_ path: String, _ code: CInt) -> RuntimeError {
        if Files.isDirectory(path) { return .notExecutable(path, why: "it is a directory; name a program") }
        if code == ENOENT {
            guard Files.status(path) != nil else { return .noCommand(path) }
            return .notExecutable(path, why: "the container lacks the interpreter or the dynamic loader that it names")
        }
        return .notExecutable(path, why: SystemError("", errno: code).reason)
    }

    // MARK: With the container's shell

    /// Lets the container's own shell evaluate scripts that are more than assignments.
    private func executeInShell(_ command: [String]) throws(RuntimeError) -> Never {
        guard access("/bin/sh", X_OK) == 0 else {
            throw .notExecutable("/bin/sh", why: "the image's environment scripts need it, and the image has none")
        }
        var (script, values) = environment.script()
        if case .shell = action { script += "SHELL=\(EnvironmentScripts.quoted(command[0])); export SHELL\n" }
        script += """
            command -v -- "$1" >/dev/null 2>&1 || {
                echo "FATAL:   \\"$1\\": executable file not found in \\$PATH of the container" >&2
                exit 255
            }
            exec "$@"

            """
        // The program's words are arguments of the script and never part of its text; values are variables, as an
        // argument may not be longer than 128 KiB with all that it holds (execve(2)).
        Self.execve("/bin/sh", ["/bin/sh", "-c", script, "sh"] + command, values.map { "\($0.name)=\($0.value)" })
        throw failure("/bin/sh", errno)
    }
}
