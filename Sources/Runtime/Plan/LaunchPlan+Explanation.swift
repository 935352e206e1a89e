import Linux
import Messages

/// The plan for people and for programs: `--explain`.
extension LaunchPlan {
    public func explanation(_ facts: HostFacts) -> String {
        var out: [String] = []
        func section(_ title: String, _ lines: [String]) {
            if lines.isEmpty { return }
            out.append(title)
            out += lines.map { "  " + $0 }
        }
        section("image", [image])
        section("action", [Self.words(action).joined(separator: " ")])
        section("namespaces", [namespaces.names.joined(separator: ", ")] + networkLines)
        let maps = identity.maps(facts)
        section("id maps (inside outside count)", maps.users.map { "uid \($0)" } + maps.groups.map { "gid \($0)" })
        section("root", [rootLine] + overlays.map { "overlay \($0.path)\($0.isReadOnly ? " (read-only)" : "")" })
        section("mounts, in order", mounts.map { "\(Self.text($0.kind, devices)) on \($0.destination)   # \($0.reason)" })
        section("devices in /dev", devices)
        section("--fusemount", fuseMounts.map { "\($0.command.joined(separator: " ")) on \($0.mountPoint)" })
        section("generated files", files.map { "\($0.path) (\($0.content.count) bytes)   # \($0.reason)" })
        section("environment", environment.lines)
        section("working directory, the first that exists", workingDirectories)
        section("rights", rightsLines)
        section("limits", limits.text)
        if let instance {
            section("instance", [instance.name] + (instance.health.map { ["health: \($0.command)   # every \($0.interval) ms"] } ?? []))
        }
        section("warnings", warnings)
        return out.joined(separator: "\n") + "\n"
    }

    /// The same as JSON.
    public func explanationJSON(_ facts: HostFacts) -> String {
        let maps = identity.maps(facts)
        func strings(_ values: [String]) -> JSONValue { .array(values.map(JSONValue.string)) }
        let mountValues = mounts.map { mount in
            JSONValue.object(
                Self.fields(mount.kind) + [
                    ("destination", .string(mount.destination)), ("required", .bool(mount.isRequired)), ("reason", .string(mount.reason)),
                ])
        }
        let variables = environment.all.map { variable, stage in
            JSONValue.object([
                ("name", .string(variable.name)), ("value", .string(variable.value)), ("origin", .string(variable.origin)),
                ("when", .string(stage)),
            ])
        }
        var members: [(key: String, value: JSONValue)] = []
        func add(_ key: String, _ value: JSONValue) { members.append((key, value)) }
        add("image", .string(image))
        add("command", .string(action.name))
        add("argv", strings(Self.words(action)))
        add("namespaces", strings(namespaces.names))
        add("network", strings(networkLines))
        add("uidMap", strings(maps.users))
        add("gidMap", strings(maps.groups))
        add("root", .string(rootLine))
        add("overlays", .array(overlays.map { .object([("path", .string($0.path)), ("readOnly", .bool($0.isReadOnly))]) }))
        add("mounts", .array(mountValues))
        add("devices", strings(devices))
        let fileValues = files.map { file in
            JSONValue.object([("path", .string(file.path)), ("size", .number(file.content.count)), ("reason", .string(file.reason))])
        }
        add("files", .array(fileValues))
        add("environment", .array(variables))
        add("workingDirectories", strings(workingDirectories))
        add("hostname", .string(hostName ?? ""))
        add("umask", .string(Self.octal(umask)))
        add("capabilities", strings(capabilities.names))
        add("noNewPrivileges", .bool(forbidsNewPrivileges))
        add("limits", strings(limits.text))
        add("warnings", strings(warnings))
        return JSONValue.object(members).indented + "\n"
    }

    private static func octal(_ mask: UInt32) -> String {
        let digits = String(mask, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    private static func words(_ action: RunOptions.Action) -> [String] {
        switch action {
        case .exec(let words): words
        case .run(let words): ["/.singularity.d/runscript"] + words
        case .test(let words): ["/.singularity.d/test"] + words
        case .start(let words): ["/.singularity.d/startscript"] + words
        case .shell(let shell, let isLogin): [shell ?? "/bin/bash"] + (isLogin ? ["-l"] : [])
        }
    }

    private var rightsLines: [String] {
        let set = capabilities.isEmpty ? "none" : capabilities == .full ? "all" : capabilities.names.joined(separator: ",")
        var out = [
            "capabilities: \(set)", "new privileges: " + (forbidsNewPrivileges ? "never" : "allowed"), "umask: " + Self.octal(umask),
        ]
        if let (user, groups) = runsAs { out.append("user \(user), groups \(groups.map(String.init).joined(separator: ","))") }
        if let seccompProfile { out.append("system calls: filtered by \(seccompProfile)") }
        return out + labelLines
    }

    private var networkLines: [String] {
        ownNetworkLines + ports.map { "port \($0.address ?? "0.0.0.0"):\($0.host)/\($0.protocolName) leads to port \($0.container)" }
            + (group.map { ["group: \($0), network \(GroupNetwork.text(GroupNetwork.network(of: $0)))/24"] } ?? [])
    }

    private var ownNetworkLines: [String] {
        switch network {
        case .host: group == nil ? [] : ["network: a loopback interface, and the group's"]
        case .isolated: ["network: a loopback interface only"]
        case .connected(let names, let arguments): ["network: " + (names.isEmpty ? "bridge" : names.joined(separator: ", "))] + arguments
        case .joined(let path): ["network: that of \(path)"]
        }
    }

    private var labelLines: [String] {
        switch securityLabel {
        case .selinux(let label)?: ["SELinux label: \(label)"]
        case .apparmor(let profile)?: ["AppArmor profile: \(profile)"]
        case nil: []
        }
    }

    private var rootLine: String {
        let layer =
            switch rootLayer {
            case .readOnly: "read-only"
            case .writableTmpfs: "changes go into memory and are thrown away (--writable-tmpfs)"
            case .overlay(let index):
                "changes go into \(overlays[index].isEmbedded ? overlays[index].name : "\(overlays[index].path) (--overlay)")"
            case .writable: "changes go into the sandbox (--writable)"
            }
        let kind =
            switch layerKind {
            case .overlay: "missing mount points in a layer over the image"
            case .fuseOverlay: "missing mount points in a layer over the image, by fuse-overlayfs"
            case .underlay: "missing mount points between bind mounts of what the image has"
            case .none: "missing mount points cannot be added"
            }
        return "\(layer); \(kind)"
    }

    private static func text(_ kind: PlannedMount.Kind, _ devices: [String]) -> String {
        switch kind {
        case .bind(let source, let readOnly): "bind \(source)\(readOnly ? " (read-only)" : "")"
        case .workFolder(let path, _): "bind \(path), made where it is missing,"
        case .proc: "proc"
        case .sysfs: "sysfs"
        case .minimalDev: "tmpfs with \(devices.isEmpty ? "harmless devices" : "harmless and chosen devices")"
        case .empty: "empty directory"
        case .image(let number, let path, let readOnly): "data image \(number), \(path)\(readOnly ? " (read-only)" : "")"
        }
    }

    private static func fields(_ kind: PlannedMount.Kind) -> [(key: String, value: JSONValue)] {
        switch kind {
        case .bind(let source, let readOnly): [("type", .string("bind")), ("source", .string(source)), ("readOnly", .bool(readOnly))]
        case .workFolder(let path, _): [("type", .string("bind")), ("source", .string(path)), ("readOnly", .bool(false))]
        case .proc: [("type", .string("proc"))]
        case .sysfs: [("type", .string("sysfs"))]
        case .minimalDev: [("type", .string("dev"))]
        case .empty: [("type", .string("tmpfs"))]
        case .image(let number, let path, let readOnly):
            [("type", .string("image")), ("image", .number(number)), ("source", .string(path)), ("readOnly", .bool(readOnly))]
        }
    }
}

extension EnvironmentPlan {
    /// All variables with the stage at which they are set.
    var all: [(variable: Variable, stage: String)] {
        var out = initial.map { ($0, "before the image's scripts") } + injected.map { ($0, "after the image's scripts") }
        for (name, value) in [("PATH (in front)", prependPath), ("PATH (behind)", appendPath), ("PATH", path)] {
            if let value {
                out.append((Variable(name: name, value: value, origin: "SINGULARITYENV_ or --env"), "after the image's scripts"))
            }
        }
        return out + inherited.map { ($0, "where the image doesn't set it") }
    }

    var lines: [String] { all.map { "\($0.variable.name)=\($0.variable.value)   # \($0.variable.origin), \($0.stage)" } }
}
