import CommandSyntax
import Glibc
import Linux
import Runtime

/// Options of `exec`, `run`, `shell` and `test`, and what they mean.
enum Running {
    static let options =
        [
            OptionSpec(
                "bind", "B", .array("src[:dest[:opts]]"), "show a path of the host in the container; opts are ro and rw",
                environment: ["BIND", "BINDPATH"]),
            OptionSpec("cleanenv", "e", .flag, "give no variables of the host to the container", environment: ["CLEANENV"]),
            OptionSpec(
                "compat", nil, .flag, "behave more like Docker: --containall --writable-tmpfs --no-init --no-umask --no-eval",
                environment: ["COMPAT"]),
            OptionSpec("contain", "c", .flag, "a small /dev, and an empty home, /tmp and /var/tmp", environment: ["CONTAIN"]),
            OptionSpec(
                "containall", "C", .flag, "--contain, with PID and IPC namespaces and a clean environment", environment: ["CONTAINALL"]),
            OptionSpec(
                "cwd", nil, .value("path"), "directory of the container to start in", aliases: ["pwd"],
                environment: ["CWD", "PWD", "TARGET_CWD", "TARGET_PWD"]),
            OptionSpec("dns", nil, .list("addresses"), "name servers for the container's resolv.conf", environment: ["DNS"]),
            OptionSpec("env", nil, .array("name=value"), "set a variable in the container"),
            OptionSpec("env-file", nil, .array("path"), "set the variables of a shell script in the container", environment: ["ENV_FILE"]),
            OptionSpec("home", "H", .value("src[:dest]"), "directory of the host that is the home in the container", environment: ["HOME"]),
            OptionSpec("hostname", nil, .value("name"), "host name of the container (implies --uts)", environment: ["HOSTNAME"]),
            OptionSpec("ipc", "i", .flag, "new IPC namespace", environment: ["IPC", "UNSHARE_IPC"]),
            OptionSpec("mount", nil, .array("spec"), "show a path of the host: type=bind,src=...,dst=...[,ro]", environment: ["MOUNT"]),
            OptionSpec(
                "net", "n", .flag, "new network namespace with nothing but a loopback interface", environment: ["NET", "UNSHARE_NET"]),
            OptionSpec("network", nil, .value("name"), "network of the new namespace; there is none", environment: ["NETWORK"]),
            OptionSpec("no-eval", nil, .flag, "take variables and arguments literally", environment: ["NO_EVAL"]),
            OptionSpec("no-home", nil, .flag, "do not mount the home directory", environment: ["NO_HOME"]),
            OptionSpec("no-init", nil, .flag, "start no init process in a PID namespace", environment: ["NOSHIMINIT"]),
            OptionSpec(
                "no-mount", nil, .list("names"), "leave mounts out: proc, sys, dev, home, tmp, cwd, bind-paths or a destination",
                environment: ["NO_MOUNT"]),
            OptionSpec("no-pid", nil, .flag, "no new PID namespace, whatever other options imply", environment: ["NO_PID"]),
            OptionSpec("no-umask", nil, .flag, "start with the umask 0022", environment: ["NO_UMASK"]),
            OptionSpec("pid", "p", .flag, "new PID namespace", environment: ["PID", "UNSHARE_PID"]),
            OptionSpec(
                "scratch", "S", .list("directories"), "empty writable directories in the container", environment: ["SCRATCH", "SCRATCHDIR"]),
            OptionSpec(
                "unsquash", nil, .flag, "run an unpacked copy of the image", aliases: ["tmp-sandbox"],
                environment: ["UNSQUASH", "TMP_SANDBOX"]),
            OptionSpec(
                "userns", "u", .flag, "new user namespace (always for users that are not root)", environment: ["USERNS", "UNSHARE_USERNS"]),
            OptionSpec("uts", nil, .flag, "new UTS namespace", environment: ["UTS", "UNSHARE_UTS"]),
            OptionSpec(
                "workdir", "W", .value("path"), "directory of the host for what --contain and --scratch keep", environment: ["WORKDIR"]),
            OptionSpec("writable", "w", .flag, "write into a sandbox directory", environment: ["WRITABLE"]),
            OptionSpec("writable-tmpfs", nil, .flag, "writes go into memory and are thrown away", environment: ["WRITABLE_TMPFS"]),
        ] + ImageFetching.options

    static let shellOption = OptionSpec("shell", "s", .value("path"), "shell of the container to start", environment: ["SHELL"])

    static func options(_ parsed: ParsedArguments, image: String, action: RunOptions.Action) throws -> RunOptions {
        var options = RunOptions(image: image, action: action)
        for text in parsed.all("bind") { options.binds += try BindSpec.parse(text) }
        for text in parsed.all("mount") { options.binds += try BindSpec.parse(mount: text) }
        let compat = parsed.has("compat")
        options.contain = parsed.has("contain")
        options.containAll = parsed.has("containall") || compat
        options.cleanEnvironment = parsed.has("cleanenv")
        options.environment = try EnvironmentFile.variables(parsed.all("env-file")) + variables(parsed.all("env"))
        options.workingDirectory = parsed["cwd"]
        options.writableTmpfs = parsed.has("writable-tmpfs") || compat
        options.writable = parsed.has("writable")
        options.newPID = (parsed.has("pid") || options.containAll) && !parsed.has("no-pid")
        options.forbidsPID = parsed.has("no-pid")
        options.newIPC = parsed.has("ipc")
        options.newUTS = parsed.has("uts")
        options.newUser = parsed.has("userns")
        options.isolateNetwork = try isolatesNetwork(parsed)
        options.noInit = parsed.has("no-init") || compat
        options.noHome = parsed.has("no-home")
        options.noMount = Set(parsed.all("no-mount"))
        options.workDirectory = parsed["workdir"]
        options.scratch = parsed.all("scratch")
        options.noEval = parsed.has("no-eval") || compat
        options.noUmask = parsed.has("no-umask") || compat
        options.unpack = parsed.has("unsquash")
        if let text = parsed["home"] { options.home = try home(text) }
        if let name = parsed["hostname"] { options.hostName = try hostName(name) }
        for address in parsed.all("dns") { options.dns.append(try nameServer(address)) }
        return options
    }

    /// `--env`: a value with one `=` is one variable and keeps its commas; with more it is a list.
    private static func variables(_ texts: [String]) throws -> [(name: String, value: String)] {
        var out: [(name: String, value: String)] = []
        for text in texts {
            let isList = text.count { $0 == "=" } > 1
            for item in isList ? BindSpec.commaSeparated(text) : [text] {
                guard let equals = item.firstIndex(of: "="), equals != item.startIndex else {
                    throw ReportedFailure(
                        message: "invalid argument \"\(text)\" for \"--env\" flag: \(item) must be formatted as key=value")
                }
                out.append((String(item[..<equals]), String(item[item.index(after: equals)...])))
            }
        }
        return out
    }

    private static func isolatesNetwork(_ parsed: ParsedArguments) throws -> Bool {
        if let network = parsed["network"], network != "none" {
            throw CommandError("--network \(network): only the network none can be had, which has nothing but a loopback interface")
        }
        if parsed.has("net"), parsed["network"] == nil {
            throw CommandError("--net needs --network none: a network of another kind cannot be had yet")
        }
        return parsed.has("net") || parsed["network"] != nil
    }

    private static func home(_ text: String) throws -> (source: String, destination: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (1...2).contains(parts.count), !parts[0].isEmpty else {
            throw CommandError("--home \(text): give source or source:destination")
        }
        let source = parts[0].hasPrefix("/") ? parts[0] : "\(Files.workingDirectory ?? "")/\(parts[0])"
        let destination = parts.count == 2 && !parts[1].isEmpty ? parts[1] : source
        guard destination.hasPrefix("/") else { throw CommandError("--home \(text): the destination must be an absolute path") }
        return (source, destination)
    }

    /// RFC 1123, section 2.1.
    private static func hostName(_ name: String) throws -> String {
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        let isValid =
            name.utf8.count <= 64
            && labels.allSatisfy { label in
                !label.isEmpty && label.first != "-" && label.last != "-"
                    && label.utf8.allSatisfy { ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7a || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2d }
            }
        guard isValid else { throw CommandError("--hostname \(name): use letters, digits and inner hyphens") }
        return name
    }

    private static func nameServer(_ text: String) throws -> String {
        let address = String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        var storage = in6_addr()
        guard inet_pton(AF_INET, address, &storage) == 1 || inet_pton(AF_INET6, address, &storage) == 1 else {
            throw CommandError("--dns \(address) is not an IP address")
        }
        return address
    }
}

/// Files of `--env-file`.
enum EnvironmentFile {
    /// Variables that a shell sets by itself.
    private static let shellsOwn: Set<String> = ["EUID", "GID", "HOME", "IFS", "OPTIND", "PWD", "OLDPWD", "UID", "_", "SHLVL"]

    /// The variables that the files set, evaluated with the host's variables by the host's shell.
    static func variables(_ paths: [String]) throws -> [(name: String, value: String)] {
        var out: [(name: String, value: String)] = []
        let host = Environment.all
        for path in paths {
            guard Files.status(path) != nil else { throw CommandError("--env-file \(path): there is no such file") }
            let absolute = path.hasPrefix("/") ? path : "./" + path
            let result = try ChildProcess.run(["/bin/sh", "-c", "set -a; . \"$1\" >&2 && env -0", "sh", absolute])
            guard result.status == 0 else {
                throw CommandError("--env-file \(path): the shell that reads it ended with status \(result.status)")
            }
            for entry in result.output.split(separator: 0) {
                let text = String(decoding: entry, as: UTF8.self)
                guard let equals = text.firstIndex(of: "=") else { continue }
                let name = String(text[..<equals])
                let value = String(text[text.index(after: equals)...])
                if host[name] != value, !shellsOwn.contains(name) { out.append((name, value)) }
            }
        }
        return out
    }
}
