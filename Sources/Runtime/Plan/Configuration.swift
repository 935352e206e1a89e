import Glibc
import Linux

/// What an administrator, and below that a user, has decided: the lines `directive = value` of singularity.conf.
public struct Configuration: Sendable, Equatable {
    /// One thing that can be decided.
    public struct Directive: Sendable {
        public enum Kind: Sendable, Equatable {
            case flag
            case choice([String])
            case number
            case text
            /// Separated by commas.
            case list
            /// One value a line, several lines.
            case repeated
        }

        public var name: String
        public var kind: Kind
        public var standard: [String]
        /// One line, for people.
        public var help: String

        init(_ name: String, _ kind: Kind, _ standard: String..., help: String) {
            self.name = name
            self.kind = kind
            self.standard = standard
            self.help = help
        }
    }

    /// All of them. The names are the peers'.
    public static let directives: [Directive] = [
        Directive("allow pid ns", .flag, "yes", help: "--pid may be used"),
        Directive("allow ipc ns", .flag, "yes", help: "--ipc may be used"),
        Directive("allow uts ns", .flag, "yes", help: "--uts and --hostname may be used"),
        Directive("allow user ns", .flag, "yes", help: "user namespaces may be used; with no, only root can run containers"),
        Directive("config passwd", .flag, "yes", help: "add the caller to the container's /etc/passwd"),
        Directive("config group", .flag, "yes", help: "add the caller's groups to the container's /etc/group"),
        Directive(
            "host accounts", .choice(["auto", "yes", "no"]), "auto",
            help: "containers are told the names of the host's other users and groups (auto: where they are in LDAP, SSSD and the like)"),
        Directive("config resolv_conf", .flag, "yes", help: "give the host's /etc/resolv.conf to the container"),
        Directive("mount proc", .flag, "yes", help: "mount /proc"),
        Directive("mount sys", .flag, "yes", help: "mount /sys"),
        Directive("mount dev", .choice(["yes", "no", "minimal"]), "yes", help: "show the host's devices, harmless ones, or none"),
        Directive("mount devpts", .flag, "yes", help: "terminals of its own in a minimal /dev"),
        Directive("mount home", .flag, "yes", help: "show the caller's home directory"),
        Directive("mount tmp", .flag, "yes", help: "show the host's /tmp and /var/tmp"),
        Directive("mount hostfs", .flag, "no", help: "show all file systems of the host"),
        Directive("mount slave", .flag, "yes", help: "what the host mounts later appears in running containers"),
        Directive("bind path", .repeated, "/etc/localtime", "/etc/hosts", help: "files or directories to show in every container"),
        Directive("user bind control", .flag, "yes", help: "users may add mounts of their own"),
        Directive("enable fusemount", .flag, "yes", help: "--fusemount may be used"),
        Directive(
            "enable overlay", .choice(["yes", "try", "no", "driver"]), "yes", help: "lay a layer over the image (driver: by fuse-overlayfs)"
        ),
        Directive(
            "enable underlay", .choice(["yes", "no", "preferred"]), "yes",
            help: "build missing mount points by bind mounts where there is no overlay"),
        Directive("sessiondir max size", .number, "64", help: "MiB that an ordinary user's container may write into memory"),
        Directive("limit container owners", .list, help: "run images of these users only"),
        Directive("limit container groups", .list, help: "run images of these groups only"),
        Directive("limit container paths", .list, help: "run images below these directories only"),
        Directive("allow container sif", .flag, "yes", help: "run SIF files"),
        Directive("allow container encrypted", .flag, "yes", help: "run encrypted SIF files"),
        Directive("allow container squashfs", .flag, "yes", help: "run bare SquashFS files"),
        Directive("allow container extfs", .flag, "yes", help: "run ext3 images"),
        Directive(
            "allow kernel extfs", .flag, "yes",
            help: "for root, the kernel mounts ext3 and ext4 files that only root can have made and that shall be written"),
        Directive("allow container dir", .flag, "yes", help: "run sandbox directories"),
        Directive(
            "verify images", .text, "no",
            help: "run only images whose signatures are accepted: no, yes (by a key of a keyring), or the path of a policy"),
        Directive("key server", .text, "https://keys.openpgp.org", help: "where OpenPGP keys are looked for"),
        Directive("always use nv", .flag, "no", help: "as if --nv were always given"),
        Directive("always use rocm", .flag, "no", help: "as if --rocm were always given"),
        Directive("use nvidia-container-cli", .flag, "no", help: "as if --nvccli were always given"),
        Directive("root default capabilities", .choice(["full", "file", "no"]), "full", help: "what root's containers may do"),
        Directive("cni configuration path", .text, help: "directory of network configurations"),
        Directive("cni plugin path", .text, help: "directory of network plugins"),
        Directive("binary path", .text, "$PATH:", help: "where host programs are looked for; $PATH: is the caller's"),
        Directive("systemd cgroups", .flag, "yes", help: "ask systemd for control groups"),
        Directive("audit log", .text, "no", help: "tell each start to: no, syslog, or the path of a socket that takes its datagrams"),
        Directive(
            "reproducible builds", .choice(["auto", "yes", "no"]), "auto",
            help: "as if --reproducible were given to every build of a definition file (auto: to those whose bases are named by digest)"),
        Directive("allow scheduler", .flag, "yes", help: "--scheduler may be used: containers that ask the host's scheduler"),
        Directive("share image servers", .flag, "yes", help: "containers of one user and one job share the mount of an image"),
    ]

    /// Directives of the peers that mean nothing here: there is no privileged part that they could govern.
    private static let ignored: Set<String> = [
        "allow setuid", "allow setuid-mount encrypted", "allow setuid-mount squashfs", "allow setuid-mount extfs",
        "allow kernel squashfs", "allow net users", "allow net groups", "allow net networks", "allow netns paths",
        "memory fs type", "max loop devices", "shared loop devices", "image driver", "download concurrency", "download part size",
        "download buffer size", "mksquashfs procs", "mksquashfs mem", "mksquashfs path", "unsquashfs path", "cryptsetup path", "go path",
        "ldconfig path", "nvidia-container-cli path", "root search path", "user search path", "sif fuse", "oci mode", "tmp sandbox",
        "sync writable extfs", "apptheus communication socket path", "allow monitoring", "always use intel-hpu",
    ]

    /// Values that were set, by directive.
    private var values: [String: [String]] = [:]

    public init() {}

    public static func == (left: Configuration, right: Configuration) -> Bool { left.values == right.values }

    static func directive(_ name: String) -> Directive? { directives.first { $0.name == name } }

    /// The values of a directive: what was set, or the default.
    public func values(_ name: String) -> [String] { values[name] ?? Self.directive(name)?.standard ?? [] }

    public func has(_ name: String) -> Bool { values(name).last == "yes" }

    public subscript(_ name: String) -> String { values(name).last ?? "" }

    /// Sets a directive.
    /// - Throws: ``RuntimeError/badOption(_:)`` where the name or the value is not known.
    public mutating func set(_ name: String, to words: [String]) throws(RuntimeError) {
        guard let directive = Self.directive(name) else {
            throw .badOption("there is no directive \"\(name)\"; `singularity config global --dry-run` prints all of them")
        }
        var words = words
        if directive.kind == .list {
            words = words.flatMap { $0.split(separator: ",").map { Self.trimmed($0) } }.filter { !$0.isEmpty && $0 != "NULL" }
        }
        for word in words {
            let allowed: [String]
            switch directive.kind {
            case .flag: allowed = ["yes", "no"]
            case .choice(let choices): allowed = choices
            case .number:
                guard UInt64(word) != nil else { throw .badOption("\(name) = \(word): give a number") }
                allowed = []
            default: allowed = []
            }
            guard allowed.isEmpty || allowed.contains(word) else {
                throw .badOption("\(name) = \(word): choose \(allowed.joined(separator: ", "))")
            }
        }
        values[name] = words
    }

    /// Back to the default.
    public mutating func reset(_ name: String) { values[name] = nil }

    /// Takes the lines of a file. A directive in it replaces what was set before.
    /// - Parameter path: for messages.
    public mutating func read(_ text: String, path: String) throws(RuntimeError) {
        var found: [String: [String]] = [:]
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let content = Self.trimmed(line)
            if content.isEmpty || content.hasPrefix("#") { continue }
            guard let equals = content.firstIndex(of: "=") else {
                throw .badOption("\(path), line \(number + 1): \"\(content)\" is not of the form directive = value")
            }
            let name = Self.trimmed(content[..<equals])
            let value = Self.trimmed(content[content.index(after: equals)...])
            if Self.ignored.contains(name) { continue }
            guard let directive = Self.directive(name) else {
                throw .badOption("\(path), line \(number + 1): there is no directive \"\(name)\"")
            }
            if value.isEmpty {
                found[name] = found[name] ?? []
            } else if directive.kind == .repeated {
                found[name, default: []].append(value)
            } else {
                found[name] = [value]
            }
        }
        for (name, words) in found {
            do { try set(name, to: words) } catch { throw .badOption("\(path): \(error)") }
        }
    }

    private static func trimmed(_ text: some StringProtocol) -> String {
        String(text.drop { $0 == " " || $0 == "\t" || $0 == "\r" }.reversed().drop { $0 == " " || $0 == "\t" || $0 == "\r" }.reversed())
    }

    /// The administrator's file.
    public static let systemPath = "/etc/singularity/singularity.conf"

    /// The administrator's file and then the user's own, or one that was named.
    /// - Parameters:
    ///   - given: --config; the user's own is not read then, and of the administrator's only `verify images` holds, not for root.
    ///   - userFolder: where the user's `singularity.conf` may be.
    public static func load(given: String?, userFolder: String) throws(RuntimeError) -> Configuration {
        var site = Configuration()
        if given == nil || getuid() != 0 { try site.readIfPresent(systemPath) }
        var configuration = site
        if let given {
            configuration = Configuration()
            try configuration.read(try text(of: given, isRequired: true) ?? "", path: given)
        } else {
            try configuration.readIfPresent(userFolder + "/singularity.conf")
        }
        // What the administrator asks of signatures, a user's own file does not take back.
        if let verification = site.values["verify images"] { configuration.values["verify images"] = verification }
        return configuration
    }

    /// Reads a file that nobody named; root's only if others can't have written it.
    private mutating func readIfPresent(_ path: String) throws(RuntimeError) {
        // Root must not be told what to do by a file that others can change.
        if getuid() == 0, let status = Files.status(path), status.st_uid != 0 || status.st_mode & 0o022 != 0 {
            throw .badOption("\(path) belongs to another user or others may write it: root doesn't use it; correct owner and mode")
        }
        if let text = try Self.text(of: path, isRequired: false) { try read(text, path: path) }
    }

    private static func text(of path: String, isRequired: Bool) throws(RuntimeError) -> String? {
        do throws(SystemError) { return try Files.readText(path, limit: 1 << 20) } catch {
            if !isRequired && (error.errno == ENOENT || error.errno == ENOTDIR || error.errno == EACCES) { return nil }
            throw .badOption("could not read the configuration file \(path): \(error.reason)")
        }
    }

    /// All directives with their values, as a file.
    public var text: String {
        var out = "# Configuration of singularity: directive = value\n"
        for directive in Self.directives {
            out += "\n# \(directive.help)\n"
            let words = values(directive.name)
            switch directive.kind {
            case .repeated: out += words.map { "\(directive.name) = \($0)\n" }.joined()
            case .list where words.isEmpty: out += "# \(directive.name) =\n"
            case .text where words.isEmpty: out += "# \(directive.name) =\n"
            default: out += "\(directive.name) = \(words.joined(separator: ","))\n"
            }
        }
        return out
    }

    /// The directives that were set, as a file.
    public var changedText: String {
        var out = "# Configuration of singularity: directive = value\n"
        for directive in Self.directives {
            guard let words = values[directive.name] else { continue }
            if directive.kind == .repeated && !words.isEmpty {
                out += words.map { "\(directive.name) = \($0)\n" }.joined()
            } else {
                out += "\(directive.name) = \(words.joined(separator: ","))\n"
            }
        }
        return out
    }
}
