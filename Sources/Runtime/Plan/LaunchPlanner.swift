import Glibc
import Linux

/// Makes the plan of a start from what the user asked, the host and the image.
package struct LaunchPlanner {
    let options: RunOptions
    let facts: HostFacts
    package let view: RootView
    let image: ImageFile
    let identity: RunIdentity
    var mounts: [PlannedMount] = []
    var files: [(path: String, content: [UInt8], reason: String)] = []
    var dataImages: [DataImage] = []
    var devices: [String] = []
    var warnings: [String] = []
    /// What devices and drivers add to the environment.
    var variables: [EnvironmentPlan.Variable] = []

    package init(_ options: RunOptions, _ facts: HostFacts, _ image: ImageFile) throws(RuntimeError) {
        self.options = options
        self.facts = facts
        self.image = image
        identity = try RunIdentity.choose(options, facts)
        view = RootView(image)
    }

    var configuration: Configuration { options.configuration }
    var contains: Bool { options.contain || options.containAll || options.boots }
    /// Ids of the program.
    var inside: (uid: UInt32, gid: UInt32) {
        switch identity {
        case .host: (options.securityUser ?? facts.uid, options.securityGroups.first ?? facts.gid)
        case .single(let uid, let gid): (uid, gid)
        case .ranges: (0, 0)
        }
    }
    var home: (source: String, destination: String) {
        if let home = options.home { return home }
        let own = facts.account?.home ?? "/"
        // Who is root only in the container has root's home there.
        return (own, options.fakeRoot && inside.uid == 0 ? "/root" : own)
    }

    package mutating func plan() throws(RuntimeError) -> LaunchPlan {
        try checkRights()
        if let folder = options.workDirectory, !Files.isDirectory(folder) {
            throw .badOption("--workdir \(folder): there is no such directory; create it first")
        }
        let namespaces = Self.namespaces(options, facts, identity)
        let rootLayer = try rootLayer()
        try addSystemMounts(namespaces)
        addHome()
        addTemporary()
        try addScratch()
        try addDrivers()
        addFiles(namespaces)
        addHostNames()
        if options.scheduler { try addScheduler() }
        let userBinds = try addUserBinds()
        for spec in options.fuseMounts {
            mounts.append(PlannedMount(.empty(mode: 0o755), spec.mountPoint, isRequired: true, reason: "--fusemount"))
        }
        let directories = addWorkingDirectory()
        var environment = EnvironmentPlan(
            options, facts, home: home.destination, image: image.path, bindDestinations: userBinds)
        environment.injected = variables.filter { one in !environment.injected.contains { $0.name == one.name } } + environment.injected
        let isHostRoot = identity == .host
        return LaunchPlan(
            image: image.path, identity: identity, namespaces: namespaces, network: options.network, ports: options.ports,
            group: options.group, rootLayer: rootLayer,
            layerKind: layerKind(rootLayer), overlays: options.overlays, dataImages: dataImages, mounts: mounts, devices: devices,
            hidesTerminals: options.noMount.contains("devpts") || !configuration.has("mount devpts"), fuseMounts: options.fuseMounts,
            files: files, environment: environment, workingDirectories: directories,
            workingDirectoryIsRequired: options.workingDirectory != nil, hostName: options.hostName,
            umask: options.noUmask ? 0o022 : facts.umask, action: options.action,
            usesInit: namespaces.contains(.pid) && !options.noInit && !options.boots || options.instance != nil && !options.boots,
            home: home.destination, capabilities: try capabilities(),
            forbidsNewPrivileges: !(isHostRoot && (options.allowsSetuid || options.keepsPrivileges || options.boots)),
            allowsSetuid: isHostRoot && options.allowsSetuid,
            runsAs: isHostRoot && (options.securityUser != nil || !options.securityGroups.isEmpty)
                ? (inside.uid, options.securityGroups.isEmpty ? [facts.gid] : options.securityGroups) : nil,
            securityLabel: options.securityLabel, seccompProfile: options.seccompProfile, limits: options.limits,
            instance: instance,
            sessionSize: facts.uid == 0 ? nil : UInt64(configuration["sessiondir max size"]).map { $0 << 20 },
            followsHostMounts: configuration.has("mount slave"), warnings: warnings)
    }

    /// With the check of its health that the image asks for.
    private var instance: InstanceSettings? {
        guard var settings = options.instance, settings.health == nil, !settings.ignoresImageHealth,
            let labels = view.read("/.singularity.d/labels.json"), let check = HealthCheck(labels: labels)
        else { return options.instance }
        settings.health = check
        return settings
    }

    static func namespaces(_ options: RunOptions, _ facts: HostFacts, _ identity: RunIdentity) -> Namespaces {
        var namespaces: Namespaces = .mount
        let configuration = options.configuration
        if identity.isUserNamespace { namespaces.insert(.user) }
        let wantsPID = options.newPID || options.containAll || options.instance != nil || !options.fuseMounts.isEmpty || options.boots
        if wantsPID && !options.forbidsPID && configuration.has("allow pid ns") { namespaces.insert(.pid) }
        if (options.newIPC || options.containAll) && configuration.has("allow ipc ns") { namespaces.insert(.ipc) }
        if (options.newUTS || options.hostName != nil) && configuration.has("allow uts ns") { namespaces.insert(.uts) }
        switch options.network {
        case .isolated, .connected: namespaces.insert(.network)
        case .host, .joined: break
        }
        if options.group != nil { namespaces.insert(.network) }
        return namespaces
    }

    // MARK: The root

    private func rootLayer() throws(RuntimeError) -> LaunchPlan.RootLayer {
        let writable = options.overlays.indices.filter { !options.overlays[$0].isReadOnly }
        if options.writable, let index = options.overlays.firstIndex(where: { $0.isEmbedded && !$0.isReadOnly }) {
            guard options.overlays.allSatisfy(\.isEmbedded) else {
                throw .badOption("cannot use --overlay in conjunction with --writable")
            }
            if options.writableTmpfs { throw .badOption("cannot use --writable-tmpfs in conjunction with --writable") }
            return .overlay(index)
        }
        if writable.count > 1 {
            throw .badOption(
                "--overlay \(options.overlays[writable[1]].path): only one overlay can be written; add :ro to the others")
        }
        guard options.writable else {
            if let index = writable.first {
                if options.writableTmpfs {
                    throw .badOption("cannot use --writable-tmpfs in conjunction with a writable --overlay; add :ro to it")
                }
                return .overlay(index)
            }
            return options.writableTmpfs ? .writableTmpfs : .readOnly
        }
        if options.overlays.contains(where: { !$0.isEmbedded }) {
            throw .badOption("cannot use --overlay in conjunction with --writable")
        }
        if options.writableTmpfs { throw .badOption("cannot use --writable-tmpfs in conjunction with --writable") }
        guard case .directory = image.content else {
            throw .badOption(
                "--writable: \(image.path) is an immutable image without a writable overlay partition; add one with `singularity overlay create \(image.path)`, use --overlay DIRECTORY for changes that stay, --writable-tmpfs for changes that are thrown away, or a sandbox directory"
            )
        }
        return .writable
    }

    private func layerKind(_ layer: LaunchPlan.RootLayer) -> LaunchPlan.LayerKind {
        if layer == .writable { return .none }
        let wantsOverlay = layer != .readOnly || !options.overlays.isEmpty
        if !wantsOverlay && (options.prefersUnderlay || configuration["enable underlay"] == "preferred") { return .underlay }
        switch configuration["enable overlay"] {
        case "no": return configuration["enable underlay"] == "no" ? .none : .underlay
        case "driver": return .fuseOverlay
        default: return .overlay
        }
    }

    // MARK: Rights

    private func checkRights() throws(RuntimeError) {
        let isRoot = identity == .host
        if !isRoot {
            for (isGiven, name) in [
                (options.allowsSetuid, "--allow-setuid"), (options.keepsPrivileges, "--keep-privs"), (options.boots, "--boot"),
            ] where isGiven {
                throw .badOption("\(name) requires root: an ordinary user has no rights that could be kept")
            }
        }
        if !configuration.has("allow user ns"), identity.isUserNamespace {
            throw .badOption(
                "the configuration doesn't allow user namespaces (allow user ns = no), and without them only root can run containers")
        }
        if !configuration.has("user bind control") {
            for (isGiven, name) in [
                (!options.binds.isEmpty, "--bind"), (options.home != nil, "--home"), (!options.scratch.isEmpty, "--scratch"),
                (options.workDirectory != nil, "--workdir"),
            ] where isGiven {
                throw .badOption("\(name): the configuration lets users add no mounts (user bind control = no)")
            }
        }
        if options.scheduler, !configuration.has("allow scheduler") {
            throw .badOption("--scheduler: the configuration doesn't allow it (allow scheduler = no)")
        }
        if !options.fuseMounts.isEmpty, !configuration.has("enable fusemount") {
            throw .badOption("--fusemount: the configuration doesn't allow it (enable fusemount = no)")
        }
        if configuration["enable overlay"] == "no" {
            for (isGiven, name) in [(options.writableTmpfs, "--writable-tmpfs"), (!options.overlays.isEmpty, "--overlay")] where isGiven {
                throw .badOption("\(name): the configuration doesn't allow overlays (enable overlay = no)")
            }
        }
    }

    private func capabilities() throws(RuntimeError) -> CapabilitySet {
        var set: CapabilitySet
        switch identity {
        case .host:
            set = .full
            if !options.keepsPrivileges {
                if options.dropsPrivileges || configuration["root default capabilities"] == "no" { set = [] }
                if configuration["root default capabilities"] == "file" && !options.dropsPrivileges {
                    set = CapabilityFile.load().capabilities(user: "root")
                }
                if options.securityUser.map({ $0 != 0 }) ?? false { set = [] }
            }
            if options.boots && !options.keepsPrivileges {
                for name in ["SYS_BOOT", "SYS_RAWIO"] { if let one = CapabilitySet(named: name) { set.remove(one) } }
            }
        case .single(let uid, _): set = uid == 0 && options.fakeRoot ? .full : []
        case .ranges: set = .full
        }
        for word in options.droppedCapabilities { set.subtract(CapabilitySet(named: word) ?? []) }
        for word in options.addedCapabilities { set.formUnion(CapabilitySet(named: word) ?? []) }
        // The usual case need not ask what the kernel has.
        if set.isEmpty { return [] }
        // Root of a container engine often has not all of them itself.
        return set.intersection(identity == .host ? CapabilitySet.effective : .full)
    }

    // MARK: Working directory

    private static let neverMounted: Set<String> = [
        "/", "/etc", "/bin", "/mnt", "/usr", "/var", "/opt", "/sbin", "/lib", "/lib64",
    ]

    /// - Returns: where to start.
    private mutating func addWorkingDirectory() -> [String] {
        if options.boots { return ["/"] }
        if let path = options.workingDirectory { return [path] }
        if contains { return [home.destination, "/"] }
        guard let current = facts.workingDirectory else { return [home.destination, "/"] }
        let places = [current, home.destination, "/"]
        guard !options.noMount.contains("cwd"), configuration.has("user bind control"), !Self.neverMounted.contains(current),
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
