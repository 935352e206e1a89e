import CommandSyntax
import Glibc
import Linux
import Messages
import Runtime

/// From a command line to what shall run.
extension Running {
    static func options(_ parsed: ParsedArguments, image: String, action: RunOptions.Action, _ log: Log) throws -> RunOptions {
        try refuseImpossible(parsed)
        var options = RunOptions(image: image, action: action)
        options.configuration = try ConfigurationFile.load()
        options.keys = EncryptionOptions.keys(parsed)
        options.verification = verification(parsed, options.configuration)
        for text in parsed.all("bind") { options.binds += try BindSpec.parse(text) }
        for text in parsed.all("data") { options.binds.append(try BindSpec.parse(data: text)) }
        for text in parsed.all("mount") { options.binds += try BindSpec.parse(mount: text) }
        options.overlays = parsed.all("overlay").map { RunOptions.Overlay($0) }
        for text in parsed.all("fusemount") { options.fuseMounts.append(try FuseMountSpec(text)) }
        let compat = parsed.has("compat")
        options.contain = parsed.has("contain")
        options.containAll = parsed.has("containall") || compat
        options.cleanEnvironment = parsed.has("cleanenv")
        options.environment = try EnvironmentFile.variables(parsed.all("env-file")) + variables(parsed.all("env"))
        options.withheldVariables = Set(parsed.all("no-env"))
        options.workingDirectory = parsed["cwd"]
        options.writableTmpfs = parsed.has("writable-tmpfs") || compat
        options.writable = parsed.has("writable")
        options.prefersUnderlay = parsed.has("underlay")
        options.noHome = parsed.has("no-home")
        options.noMount = Set(parsed.all("no-mount"))
        options.workDirectory = parsed["workdir"]
        options.scratch = parsed.all("scratch")
        options.noEval = parsed.has("no-eval") || compat
        options.noUmask = parsed.has("no-umask") || compat
        options.unpack = parsed.has("unsquash")
        options.isolatesServer = parsed.has("private-mount")
        options.app = try app(parsed["app"] ?? "")
        if let text = parsed["home"] { options.home = try home(text) }
        for address in parsed.all("dns") { options.dns.append(try nameServer(address)) }
        try setNamespaces(parsed, &options, log)
        try setRights(parsed, &options, log)
        setDevices(parsed, &options)
        options.limits = try limits(parsed)
        options.scheduler = parsed.has("scheduler")
        if parsed.has("closed") { close(&options) }
        warnOfUnknownMounts(options.noMount, log)
        return options
    }

    /// Leaves nothing of the host but what other options show.
    private static func close(_ options: inout RunOptions) {
        options.containAll = true
        options.newPID = !options.forbidsPID
        options.newUTS = true
        options.hostName = options.hostName ?? "container"
        if options.network == .host, options.group == nil { options.network = .isolated }
        options.noMount.formUnion(["bind-paths", "hostfs", "/etc/resolv.conf"])
        options.dropsPrivileges = true
    }

    /// What images are asked for: by the administrator, whom an option does not overrule, or by the user.
    private static func verification(_ parsed: ParsedArguments, _ configuration: Configuration) -> ImageVerification? {
        let site = configuration["verify images"]
        let wanted = site != "no" && !site.isEmpty ? site : parsed["verify"] ?? "no"
        return wanted == "no" || wanted == "false" ? nil : ImageVerification(request: wanted, keyring: KeyStore.keyring(parsed))
    }

    private static func refuseImpossible(_ parsed: ParsedArguments) throws {
        for (name, reason) in impossible where parsed.isGiven(name) && parsed[name] != "false" {
            throw CommandError("--\(name): \(reason)")
        }
    }

    private static let impossible = [
        ("oci", "there is no OCI mode; images of registries run without it"), ("ignore-userns", "containers need user namespaces"),
        ("dmtcp-launch", "checkpoints are not supported"),
        ("dmtcp-restart", "checkpoints are not supported"), ("intel-hpu", "use --device with the vendor's description (CDI)"),
    ]

    // MARK: Namespaces

    private static func setNamespaces(_ parsed: ParsedArguments, _ options: inout RunOptions, _ log: Log) throws {
        options.newPID = (parsed.has("pid") || options.containAll) && !parsed.has("no-pid")
        options.forbidsPID = parsed.has("no-pid")
        options.newIPC = parsed.has("ipc")
        options.newUTS = parsed.has("uts")
        options.newUser = parsed.has("userns")
        options.fakeRoot = parsed.has("fakeroot")
        options.ignoresSubordinateIDs = parsed.has("ignore-subuid")
        options.noInit = parsed.has("no-init") || parsed.has("compat")
        if let name = parsed["hostname"] { options.hostName = try hostName(name) }
        options.network = try network(parsed, log)
        options.ports = try parsed.all("publish").map { text throws(RuntimeError) in try PortMapping(published: text) }
        if let name = parsed["group"] {
            guard InstanceStore.isName(name) else {
                throw CommandError("--group \(name) is not a name for a group: use letters, digits, '.', '_' and '-'")
            }
            options.group = name
        }
    }

    private static func network(_ parsed: ParsedArguments, _ log: Log) throws -> RunOptions.Network {
        let names = parsed.all("network")
        let arguments = parsed.all("network-args")
        if let path = parsed["netns-path"] {
            if parsed.has("net") { log.warning("--netns-path is given: --net makes no new network namespace") }
            for option in ["group", "publish"] where parsed.isGiven(option) {
                throw CommandError("--\(option) cannot be combined with --netns-path: the network is somebody else's")
            }
            return .joined(path)
        }
        guard parsed.has("net") || !names.isEmpty || !arguments.isEmpty || parsed.isGiven("publish") else { return .host }
        if !parsed.has("net"), !parsed.isGiven("publish") { log.info("--network and --network-args imply --net") }
        if names == ["none"] {
            if !arguments.isEmpty { throw CommandError("--network-args: the network none has no ports") }
            if parsed.isGiven("publish") { throw CommandError("--publish: the network none has no ports") }
            return .isolated
        }
        if names.contains("none") { throw CommandError("--network: none cannot be combined with other networks") }
        return .connected(names: names, arguments: arguments)
    }

    // MARK: Rights

    private static func setRights(_ parsed: ParsedArguments, _ options: inout RunOptions, _ log: Log) throws {
        func known(_ words: [String], _ option: String) -> [String] {
            words.filter { word in
                let isKnown = CapabilitySet(named: word) != nil
                if !isKnown { log.warning("--\(option): there is no capability \(word)") }
                return isKnown
            }
        }
        options.addedCapabilities = known(parsed.all("add-caps"), "add-caps")
        options.droppedCapabilities = known(parsed.all("drop-caps"), "drop-caps")
        options.keepsPrivileges = parsed.has("keep-privs")
        options.dropsPrivileges = parsed.has("no-privs")
        options.allowsSetuid = parsed.has("allow-setuid")
        for text in parsed.all("security") {
            guard let colon = text.firstIndex(of: ":") else {
                throw CommandError("--security \(text): give uid:N, gid:N, selinux:LABEL, apparmor:PROFILE or seccomp:FILE")
            }
            let value = String(text[text.index(after: colon)...])
            switch text[..<colon] {
            case "uid": options.securityUser = try identifier(value, text)
            case "gid": options.securityGroups = try value.split(separator: ":").map { try identifier(String($0), text) }
            case "selinux": try label(.selinux(value), &options)
            case "apparmor": try label(.apparmor(value), &options)
            case "seccomp":
                guard Files.status(value) != nil else { throw CommandError("--security \(text): there is no such file") }
                options.seccompProfile = value
            default: throw CommandError("--security \(text): there are uid, gid, selinux, apparmor and seccomp")
            }
        }
    }

    private static func label(_ label: SecurityLabel, _ options: inout RunOptions) throws {
        if options.securityLabel != nil { throw CommandError("--security: only one label can be given, selinux or apparmor") }
        options.securityLabel = label
    }

    private static func identifier(_ text: String, _ option: String) throws -> UInt32 {
        // A number that is too large must not become another one, nor a name.
        guard let number = UInt32(text), number != UInt32.max else {
            throw CommandError("--security \(option): \(text) is not a user or group id")
        }
        return number
    }

    // MARK: Devices

    private static func setDevices(_ parsed: ParsedArguments, _ options: inout RunOptions) {
        let configuration = options.configuration
        options.nvidiaCLI = parsed.has("nvccli") || configuration.has("use nvidia-container-cli") && parsed.has("nv")
        options.nvidia = (parsed.has("nv") || options.nvidiaCLI || configuration.has("always use nv")) && !parsed.has("no-nv")
        options.rocm = (parsed.has("rocm") || configuration.has("always use rocm")) && !parsed.has("no-rocm")
        options.cdiDevices = parsed.all("device")
        options.cdiFolders = parsed.all("cdi-dirs")
        options.containedLibraries = parsed.all("containlibs")
    }

    // MARK: Limits

    private static func limits(_ parsed: ParsedArguments) throws -> ResourceLimits {
        var limits = ResourceLimits()
        func size(_ name: String) throws -> Int64? {
            guard let text = parsed[name] else { return nil }
            if text == "-1", name == "memory-swap" { return -1 }
            guard let bytes = ByteCount.bytes(text), bytes > 0 else { throw CommandError("--\(name): invalid memory value: \(text)") }
            return Int64(clamping: bytes)
        }
        if let text = parsed["cpus"] {
            let most = Double(sysconf(CInt(_SC_NPROCESSORS_ONLN)))
            guard let number = Double(text), number >= 0.01, number <= most else {
                throw CommandError("--cpus \(text): cpus value must be in range 0.01 - \(Int(most))")
            }
            limits.cpus = number
        }
        if let text = parsed["cpu-shares"], text != "-1" {
            guard let number = UInt64(text), number >= 2 else { throw CommandError("--cpu-shares \(text): give a number from 2 on") }
            limits.cpuShares = number
        }
        limits.cpusetCPUs = parsed["cpuset-cpus"]
        limits.cpusetNodes = parsed["cpuset-mems"]
        limits.memory = try size("memory")
        limits.memoryReservation = try size("memory-reservation")
        limits.memorySwap = try size("memory-swap")
        limits.disablesOOMKiller = parsed.has("oom-kill-disable")
        if let text = parsed["pids-limit"], text != "0" {
            guard let number = Int64(text), number >= -1 else { throw CommandError("--pids-limit \(text): give a number, or -1") }
            limits.processes = number
        }
        if let text = parsed["blkio-weight"], text != "0" {
            guard let number = UInt64(text), (10...1000).contains(number) else {
                throw CommandError("--blkio-weight \(text): give 10 to 1000")
            }
            limits.blockWeight = number
        }
        for text in parsed.all("blkio-weight-device") {
            guard let colon = text.lastIndex(of: ":"), let weight = UInt64(text[text.index(after: colon)...]), (10...1000).contains(weight)
            else {
                throw CommandError("--blkio-weight-device \(text): give DEVICE:WEIGHT, with a weight from 10 to 1000")
            }
            limits.blockDeviceWeights.append((String(text[..<colon]), weight))
        }
        if let path = parsed["apply-cgroups"] {
            if !limits.isEmpty { throw CommandError("--apply-cgroups cannot be combined with options that set limits") }
            return try ResourceLimits(file: path)
        }
        return limits
    }

    // MARK: Texts

    private static let mountNames: Set<String> = ["proc", "sys", "dev", "devpts", "home", "tmp", "hostfs", "cwd", "bind-paths", "accounts"]

    private static func warnOfUnknownMounts(_ words: Set<String>, _ log: Log) {
        for word in words.sorted() where !word.hasPrefix("/") && !mountNames.contains(word) {
            log.warning(
                "--no-mount \(word): there is no such mount; there are \(mountNames.sorted().joined(separator: ", ")) and destinations")
        }
    }

    /// An application's name is part of paths.
    private static func app(_ name: String) throws -> String {
        guard !name.contains("/"), name != "..", name != "." else { throw CommandError("--app \(name) is not the name of an application") }
        return name
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
    static func hostName(_ name: String) throws -> String {
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
        if paths.isEmpty { return out }
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
