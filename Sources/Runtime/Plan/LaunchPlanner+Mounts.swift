import Glibc
import Linux

/// The mounts of a plan, group after group.
extension LaunchPlanner {
    mutating func bind(
        _ source: String, _ destination: String, readOnly: Bool = false, isRequired: Bool = false,
        reason: String
    ) {
        mounts.append(
            PlannedMount(
                .bind(source: source, readOnly: readOnly), destination, isRequired: isRequired,
                reason: reason))
    }

    private func isLeftOut(_ word: String) -> Bool { options.noMount.contains(word) }

    mutating func addSystemMounts(_ namespaces: Namespaces) throws(RuntimeError) {
        let setting = configuration["mount dev"]
        let hostDev = options.binds.contains { $0.destination == "/dev" && $0.source == "/dev" }
        if !isLeftOut("dev"), setting != "no", !hostDev {
            if contains || setting == "minimal" {
                let reason = contains ? "--contain: harmless devices only" : "the configuration: mount dev = minimal"
                mounts.append(PlannedMount(.minimalDev, "/dev", isRequired: true, reason: reason))
            } else {
                bind("/dev", "/dev", reason: "devices of the host (--no-mount dev)")
            }
        }
        if configuration.has("mount hostfs"), !contains, !isLeftOut("hostfs") { addHostFileSystems() }
        addBindPaths()
        if !isLeftOut("proc"), configuration.has("mount proc") {
            if namespaces.contains(.pid) {
                mounts.append(PlannedMount(.proc, "/proc", isRequired: true, reason: "processes of the new PID namespace"))
            } else {
                bind("/proc", "/proc", reason: "processes of the host (--no-mount proc)")
            }
        }
        if !isLeftOut("sys"), configuration.has("mount sys") {
            if namespaces.contains(.network) {
                mounts.append(PlannedMount(.sysfs, "/sys", isRequired: false, reason: "kernel objects of the new network (--no-mount sys)"))
            } else {
                bind("/sys", "/sys", reason: "kernel objects of the host (--no-mount sys)")
            }
        }
    }

    /// Everything that is mounted on the host but what the system keeps for itself.
    private mutating func addHostFileSystems() {
        guard let text = try? Files.readText("/proc/self/mountinfo") else { return }
        var points: Set<String> = []
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 4 else { continue }
            let point = OctalEscapes.decoded(String(fields[4]))
            guard point != "/", !["/proc", "/sys", "/dev", "/run", "/boot", "/var"].contains(where: { Self.isPath(point, within: $0) })
            else { continue }
            points.insert(point)
        }
        for point in points.sorted() where !points.contains(where: { $0 != point && Self.isPath(point, within: $0) }) {
            bind(point, point, reason: "mounted on the host (the configuration: mount hostfs = yes; --no-mount hostfs)")
        }
    }

    /// The configuration's `bind path`. The two standard ones may be missing on a host, and localtime is a copy.
    private mutating func addBindPaths() {
        guard !isLeftOut("bind-paths") else { return }
        for entry in configuration.values("bind path") {
            let parts = entry.split(separator: ":", maxSplits: 1).map(String.init)
            guard let source = parts.first else { continue }
            let destination = parts.count > 1 ? parts[1] : source
            if isLeftOut(destination) || destination == "/etc/localtime" { continue }
            if contains && destination != "/etc/hosts" { continue }
            if destination == "/etc/hosts", hasOwnNetwork { continue }
            bind(
                source, destination, isRequired: false,
                reason: source == "/etc/hosts"
                    ? "host names of the host (--no-mount /etc/hosts)"
                    : "the configuration: bind path = \(entry) (--no-mount \(destination))")
        }
    }

    private var hasOwnNetwork: Bool {
        if options.group != nil { return true }
        switch options.network {
        case .host, .joined: return false
        case .isolated, .connected: return contains
        }
    }

    private mutating func addWorkFolder(_ source: String, _ destination: String, mode: UInt32, reason: String) {
        mounts.append(PlannedMount(.workFolder(source, mode: mode), destination, isRequired: true, reason: reason))
    }

    mutating func addHome() {
        let isGiven = options.home != nil
        guard !options.noHome, !isLeftOut("home"), isGiven || configuration.has("mount home"), home.destination != "/" else { return }
        if contains && !isGiven {
            if let folder = options.workDirectory {
                addWorkFolder(folder + "/home", home.destination, mode: 0o700, reason: "home in --workdir")
            } else {
                mounts.append(PlannedMount(.empty(mode: 0o700), home.destination, isRequired: true, reason: "--contain: an empty home"))
            }
        } else if Files.isDirectory(home.source) {
            bind(home.source, home.destination, isRequired: isGiven, reason: isGiven ? "--home" : "home of the caller (--no-home)")
        } else {
            mounts.append(
                PlannedMount(.empty(mode: 0o700), home.destination, isRequired: isGiven, reason: "there is no \(home.source) on the host"))
        }
    }

    mutating func addTemporary() {
        guard !isLeftOut("tmp"), configuration.has("mount tmp") else { return }
        for (path, name) in [("/tmp", "tmp"), ("/var/tmp", "var_tmp")] {
            if !contains {
                // Where both are one place in the image, /tmp shows there already.
                if path == "/var/tmp", view.resolve(path)?.existing == ["tmp"] { continue }
                bind(path, path, reason: "temporary files of the host (--no-mount tmp)")
            } else if let folder = options.workDirectory {
                addWorkFolder("\(folder)/\(name)", path, mode: 0o1777, reason: "temporary files in --workdir")
            } else {
                mounts.append(PlannedMount(.empty(mode: 0o1777), path, isRequired: true, reason: "--contain: an empty \(path)"))
            }
        }
    }

    mutating func addScratch() throws(RuntimeError) {
        for path in options.scratch {
            guard path.hasPrefix("/") else { throw .badOption("--scratch \(path): the destination must be an absolute path") }
            if let folder = options.workDirectory {
                addWorkFolder("\(folder)/scratch\(path)", path, mode: 0o750, reason: "--scratch in --workdir")
            } else {
                mounts.append(PlannedMount(.empty(mode: 0o755), path, isRequired: true, reason: "--scratch"))
            }
        }
    }

    // MARK: Accounts

    /// Where the C library asks for the host's other accounts.
    mutating func addHostNames() {
        guard let place = options.hostNames else { return }
        bind(
            place.folder, HostNames.destination, readOnly: true, reason: "names of the host's users and groups (--no-mount accounts)")
    }

    // MARK: Small files

    /// Small files are put into the throw-away layer rather than mounted: a program may then replace them.
    mutating func addFiles(_ namespaces: Namespaces) {
        let isRootWriting = inside.uid == 0 && options.isWritten
        var inner = facts
        inner.uid = inside.uid
        inner.gid = inside.gid
        // Who wants to be another user of the image is called as the image calls that one.
        if !isRootWriting, options.securityUser == nil, configuration.has("config passwd"), !isLeftOut("/etc/passwd"),
            let text = view.read("/etc/passwd"),
            let content = AccountFiles.passwd(text, inner, home: home.destination)
        {
            add("/etc/passwd", content, reason: "the image's accounts and the caller")
        }
        if !isRootWriting, configuration.has("config group"), !isLeftOut("/etc/group"), let text = view.read("/etc/group"),
            let content = AccountFiles.group(text, inner, names: facts.groupNames)
        {
            add("/etc/group", content, reason: "the image's groups and the caller's")
        }
        if !options.dns.isEmpty {
            add("/etc/resolv.conf", options.dns.map { "nameserver \($0)\n" }.joined(), reason: "--dns")
        } else if !isLeftOut("/etc/resolv.conf"), configuration.has("config resolv_conf"),
            let text = try? Files.readText("/etc/resolv.conf", limit: 1 << 20)
        {
            add("/etc/resolv.conf", text, reason: "name servers of the host (--no-mount /etc/resolv.conf)")
        }
        if hasOwnNetwork, !isLeftOut("/etc/hosts") {
            if let group = options.group, let hosts = GroupNetwork.hosts(group) {
                bind(hosts, "/etc/hosts", readOnly: true, reason: "--group: the names of its containers (--no-mount /etc/hosts)")
            } else {
                add("/etc/hosts", OwnHosts.text, reason: "a network of its own")
            }
        }
        if let name = options.hostName { add("/etc/hostname", name + "\n", reason: "--hostname") }
        if !isLeftOut("bind-paths"), !isLeftOut("/etc/localtime"), configuration.values("bind path").contains("/etc/localtime"),
            let zone = try? Files.read("/etc/localtime", limit: 1 << 20)
        {
            files.append(("/etc/localtime", zone, "time zone of the host (--no-mount /etc/localtime)"))
        }
    }

    private mutating func add(_ path: String, _ text: String, reason: String) { files.append((path, Array(text.utf8), reason)) }

    // MARK: Binds

    /// - Returns: the destinations.
    mutating func addUserBinds() throws(RuntimeError) -> [String] {
        var absolute: [BindSpec] = []
        for spec in options.binds {
            var spec = spec
            let given = spec.source
            if !spec.source.hasPrefix("/") { spec.source = "\(facts.workingDirectory ?? "")/\(spec.source)" }
            if !spec.destination.hasPrefix("/") || spec.destination == given { spec.destination = spec.source }
            absolute.append(spec)
        }
        // Parents before children, whatever the order on the command line.
        let sorted = absolute.enumerated().sorted {
            (Self.depth($0.element.destination), $0.offset) < (Self.depth($1.element.destination), $1.offset)
        }.map(\.element)
        var taken: Set<String> = []
        for spec in sorted {
            if spec.destination == "/" { throw .badOption("--bind \(spec.source):/ would hide the whole image") }
            guard taken.insert(spec.destination).inserted else {
                warnings.append("destination \(spec.destination) is already in the list of mounts: \(spec.source) is not mounted")
                continue
            }
            if let path = spec.imagePath {
                let image = dataImage(spec)
                mounts.append(
                    PlannedMount(
                        .image(image, path: path, readOnly: spec.isReadOnly), spec.destination, isRequired: true,
                        reason: spec.isData ? "--data" : "--bind of an image"))
            } else if contains, Self.isPath(spec.source, within: "/dev"), spec.source != "/dev", spec.source == spec.destination {
                devices.append(spec.source)
            } else {
                bind(spec.source, spec.destination, readOnly: spec.isReadOnly, isRequired: true, reason: "--bind")
            }
        }
        warnAboutMissingData(absolute.map(\.destination))
        return absolute.map(\.destination)
    }

    /// An image may say where it expects data: directories in its label ``dataLabel``.
    private mutating func warnAboutMissingData(_ given: [String]) {
        guard let labels = view.read("/.singularity.d/labels.json"), let value = LabelText.value(of: Self.dataLabel, in: labels) else {
            return
        }
        for path in value.split(separator: " ").map(String.init) where path.hasPrefix("/") && !given.contains(path) {
            warnings.append(
                "the image expects data at \(path), where nothing is mounted: give --data FILE:\(path), or --bind DIRECTORY:\(path)")
        }
    }

    /// Directories separated by blanks.
    static let dataLabel = "org.singularity.data"

    /// The number of an image in the plan; each is opened once, for writing where any mount wants to.
    private mutating func dataImage(_ spec: BindSpec) -> Int {
        if let index = dataImages.firstIndex(where: { $0.path == spec.source && $0.object == spec.imageObject }) {
            if !spec.isReadOnly { dataImages[index].isReadOnly = false }
            return index
        }
        dataImages.append(DataImage(path: spec.source, object: spec.imageObject, isReadOnly: spec.isReadOnly))
        return dataImages.count - 1
    }

    private static func depth(_ path: String) -> Int { path.split(separator: "/").count }
}

/// Characters that proc_pid_mountinfo(5) writes as a backslash and three octal digits.
enum OctalEscapes {
    static func decoded(_ text: String) -> String {
        guard text.contains("\\") else { return text }
        var out: [UInt8] = []
        var bytes = Array(text.utf8)[...]
        while let byte = bytes.popFirst() {
            if byte == UInt8(ascii: "\\"), bytes.count >= 3, let code = UInt8(String(decoding: bytes.prefix(3), as: UTF8.self), radix: 8) {
                out.append(code)
                bytes = bytes.dropFirst(3)
            } else {
                out.append(byte)
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}
