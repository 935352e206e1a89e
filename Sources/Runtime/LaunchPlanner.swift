import Glibc
import Linux

/// Makes the plan of a start from what the user asked, the host and the image.
package struct LaunchPlanner {
    private let options: RunOptions
    private let facts: HostFacts
    package let view: RootView
    private let image: ImageFile
    private var mounts: [PlannedMount] = []
    private var files: [(path: String, content: [UInt8])] = []

    package init(_ options: RunOptions, _ facts: HostFacts, _ image: ImageFile) {
        self.options = options
        self.facts = facts
        self.image = image
        view = RootView(image)
    }

    private var contains: Bool { options.contain || options.containAll }
    private var home: (source: String, destination: String) {
        if let home = options.home { return home }
        let own = facts.account?.home ?? "/"
        return (own, own)
    }

    package mutating func plan() throws(RuntimeError) -> LaunchPlan {
        if let folder = options.workDirectory, !Files.isDirectory(folder) {
            throw .badOption("--workdir \(folder): there is no such directory; create it first")
        }
        let namespaces = Self.namespaces(options, facts)
        try addSystemMounts(newPID: namespaces.contains(.pid))
        addHome()
        addTemporary()
        try addScratch()
        addFiles()
        let userBinds = try addUserBinds()
        let directories = addWorkingDirectory()
        return LaunchPlan(
            namespaces: namespaces, rootLayer: try rootLayer(), mounts: mounts, files: files,
            environment: EnvironmentPlan(
                options, facts, home: home.destination, image: image.path, bindDestinations: userBinds),
            workingDirectories: directories, workingDirectoryIsRequired: options.workingDirectory != nil,
            hostName: options.hostName, umask: options.noUmask ? 0o022 : facts.umask, action: options.action,
            usesInit: namespaces.contains(.pid) && !options.noInit, home: home.destination)
    }

    static func namespaces(_ options: RunOptions, _ facts: HostFacts) -> Namespaces {
        var namespaces: Namespaces = .mount
        if !facts.mayMount || options.newUser { namespaces.insert(.user) }
        if (options.newPID || options.containAll) && !options.forbidsPID { namespaces.insert(.pid) }
        if options.newIPC || options.containAll { namespaces.insert(.ipc) }
        if options.newUTS || options.hostName != nil { namespaces.insert(.uts) }
        if options.isolateNetwork { namespaces.insert(.network) }
        return namespaces
    }

    private func rootLayer() throws(RuntimeError) -> LaunchPlan.RootLayer {
        guard options.writable else { return options.writableTmpfs ? .writableTmpfs : .readOnly }
        if options.writableTmpfs { throw .badOption("cannot use --writable-tmpfs in conjunction with --writable") }
        guard case .directory = image.content else {
            throw .badOption(
                "--writable: \(image.path) is an immutable image; use --writable-tmpfs for changes that are thrown away, or a sandbox directory"
            )
        }
        return .writable
    }

    // MARK: Mounts, in their order

    private mutating func addSystemMounts(newPID: Bool) throws(RuntimeError) {
        if !options.noMount.contains("dev") {
            if contains {
                mounts.append(PlannedMount(.minimalDev, "/dev", isRequired: true, reason: "--contain: harmless devices only"))
            } else {
                bind("/dev", "/dev", reason: "devices of the host (--no-mount dev)")
            }
        }
        if !options.noMount.contains("bind-paths") && !options.noMount.contains("/etc/hosts") {
            bind("/etc/hosts", "/etc/hosts", isRequired: false, reason: "host names of the host (--no-mount /etc/hosts)")
        }
        if !options.noMount.contains("proc") {
            if newPID {
                mounts.append(PlannedMount(.proc, "/proc", isRequired: true, reason: "processes of the new PID namespace"))
            } else {
                bind("/proc", "/proc", reason: "processes of the host (--no-mount proc)")
            }
        }
        if !options.noMount.contains("sys") {
            bind("/sys", "/sys", reason: "kernel objects of the host (--no-mount sys)")
        }
    }

    private mutating func bind(
        _ source: String, _ destination: String, readOnly: Bool = false, isRequired: Bool = false,
        reason: String
    ) {
        mounts.append(
            PlannedMount(
                .bind(source: source, readOnly: readOnly), destination, isRequired: isRequired,
                reason: reason))
    }

    private mutating func addWorkFolder(_ source: String, _ destination: String, mode: UInt32, reason: String) {
        mounts.append(PlannedMount(.workFolder(source, mode: mode), destination, isRequired: true, reason: reason))
    }

    private mutating func addHome() {
        guard !options.noHome, !options.noMount.contains("home"), home.destination != "/" else { return }
        let isGiven = options.home != nil
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

    private mutating func addTemporary() {
        guard !options.noMount.contains("tmp") else { return }
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

    private mutating func addScratch() throws(RuntimeError) {
        for path in options.scratch {
            guard path.hasPrefix("/") else { throw .badOption("--scratch \(path): the destination must be an absolute path") }
            if let folder = options.workDirectory {
                addWorkFolder("\(folder)/scratch\(path)", path, mode: 0o750, reason: "--scratch in --workdir")
            } else {
                mounts.append(PlannedMount(.empty(mode: 0o755), path, isRequired: true, reason: "--scratch"))
            }
        }
    }

    /// Small files are put into the throw-away layer rather than mounted: a program may then replace them.
    private mutating func addFiles() {
        let isRootWriting = facts.uid == 0 && (options.writable || options.writableTmpfs)
        if !isRootWriting, let text = view.read("/etc/passwd"),
            let content = AccountFiles.passwd(text, facts, home: home.destination)
        {
            add("/etc/passwd", content)
        }
        if !isRootWriting, let text = view.read("/etc/group"),
            let content = AccountFiles.group(text, facts, names: facts.groupNames)
        {
            add("/etc/group", content)
        }
        if !options.dns.isEmpty {
            add("/etc/resolv.conf", options.dns.map { "nameserver \($0)\n" }.joined())
        } else if !options.noMount.contains("/etc/resolv.conf"), let text = try? Files.readText("/etc/resolv.conf", limit: 1 << 20) {
            add("/etc/resolv.conf", text)
        }
        if let name = options.hostName { add("/etc/hostname", name + "\n") }
        if !options.noMount.contains("bind-paths"), !options.noMount.contains("/etc/localtime"),
            let zone = try? Files.read("/etc/localtime", limit: 1 << 20)
        {
            files.append(("/etc/localtime", zone))
        }
    }

    private mutating func add(_ path: String, _ text: String) { files.append((path, Array(text.utf8))) }

    /// - Returns: the destinations.
    private mutating func addUserBinds() throws(RuntimeError) -> [String] {
        var absolute: [BindSpec] = []
        for spec in options.binds {
            var spec = spec
            if !spec.source.hasPrefix("/") { spec.source = "\(facts.workingDirectory ?? "")/\(spec.source)" }
            if !spec.destination.hasPrefix("/") { spec.destination = spec.source }
            absolute.append(spec)
        }
        // Parents before children, whatever the order on the command line.
        let sorted = absolute.enumerated().sorted {
            (Self.depth($0.element.destination), $0.offset) < (Self.depth($1.element.destination), $1.offset)
        }.map(\.element)
        for spec in sorted {
            if spec.destination == "/" { throw .badOption("--bind \(spec.source):/ would hide the whole image") }
            bind(spec.source, spec.destination, readOnly: spec.isReadOnly, isRequired: true, reason: "--bind")
        }
        return absolute.map(\.destination)
    }

    private static func depth(_ path: String) -> Int { path.split(separator: "/").count }

    // MARK: Working directory

    private static let neverMounted: Set<String> = [
        "/", "/etc", "/bin", "/mnt", "/usr", "/var", "/opt", "/sbin", "/lib", "/lib64",
    ]

    /// - Returns: where to start.
    private mutating func addWorkingDirectory() -> [String] {
        if let path = options.workingDirectory { return [path] }
        if contains { return [home.destination, "/"] }
        guard let current = facts.workingDirectory else { return [home.destination, "/"] }
        let places = [current, home.destination, "/"]
        guard !options.noMount.contains("cwd"), !Self.neverMounted.contains(current),
            !["/sys", "/proc", "/dev"].contains(where: { Self.isPath(current, within: $0) })
        else { return places }
        let isVisible = mounts.contains { mount in
            guard case .bind(let source, _) = mount.kind else { return false }
            return source == mount.destination && Self.isPath(current, within: mount.destination)
        }
        if !isVisible { bind(current, current, reason: "the working directory (--no-mount cwd)") }
        return places
    }

    /// Compares whole names: /scratch2 is not within /scratch.
    package static func isPath(_ path: String, within folder: String) -> Bool {
        path == folder || folder == "/" || path.hasPrefix(folder + "/")
    }
}
