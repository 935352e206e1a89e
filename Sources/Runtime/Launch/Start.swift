import CLinux
import Glibc
import Linux
import Messages

/// The second half of a start: from the new mount namespace to the program.
struct Start {
    let plan: LaunchPlan
    let view: RootView
    let environment: EnvironmentScripts
    let facts: HostFacts
    let images: MountedImages
    let seccomp: SeccompProfile?
    let network: NetworkHelper?
    let groupNetwork: GroupNetwork?
    let group: ControlGroup?
    let instance: InstanceStart?
    let log: Log

    /// For a forked child, whose errors nobody else can report.
    func becomeProgramOrExit(_ means: consuming RootMount.Means) -> Never {
        do { try becomeProgram(means) } catch {
            log.fatal("\(error)")
            _exit(255)
        }
    }

    func becomeProgram(_ means: consuming RootMount.Means) throws(RuntimeError) -> Never {
        try joinGroup()
        try enterNamespaces()
        var mounts = try PreparedMounts(plan.mounts, log)
        var fuse = try FuseMounts(plan.fuseMounts)
        let layer = SessionLayer(plan, view, isDirectory: PreparedMounts.areDirectories(plan.mounts, images: images.isDirectory))
        let hasLayer = try makeRoot(means, layer, &mounts)
        let label = try plan.securityLabel.map { (label) throws(RuntimeError) in try LabelFile(label) }
        do throws(SystemError) {
            guard chdir(hasLayer ? Session.root : Session.image) == 0 else { throw .last("enter the container's root") }
            try Mounting.pivotToWorkingDirectory()
        } catch { throw .step("changing the root directory", error, hint: "") }
        try mounts.attach(unreachable: layer.unreachable, missingIsWarned: !hasLayer)
        try fuse.attach()
        let directory = try enterWorkingDirectory()
        umask(mode_t(plan.umask))
        var environment = environment
        environment.workingDirectory = directory
        let rights = Rights(plan, seccomp: seccomp, label: label)
        let payload = Payload(action: plan.action, environment: environment, log: log)
        try rights.apply()
        try fuse.startPrograms()
        guard plan.usesInit else {
            try rights.confine()
            // The image's own init says nothing when it runs.
            instance?.tellReady()
            try payload.execute()
        }
        do throws(SystemError) {
            func program(_ payload: Payload) -> ContainerInit.Program {
                ContainerInit.Program(log: log) { () throws(RuntimeError) -> Never in
                    try rights.confine()
                    try payload.execute()
                }
            }
            if let settings = plan.instance {
                let probe = settings.health.map { payload.with(.exec(["/bin/sh", "-c", $0.command])) }
                try ContainerInit.runInstance(
                    program(payload), hasProgram: payload.hasProgram, probe: probe.map(program), settings, instance)
            }
            try ContainerInit.runAsInit(program(payload))
        } catch { throw .step("starting the program", error, hint: "") }
    }

    private func joinGroup() throws(RuntimeError) {
        guard let group else { return }
        do throws(SystemError) { try group.join() } catch {
            throw .step("entering the control group \(group.path)", error, hint: "")
        }
    }

    private func enterNamespaces() throws(RuntimeError) {
        let rest = plan.namespaces.subtracting([.user, .pid])
        if case .joined(let path) = plan.network { try join(path) }
        do throws(SystemError) {
            try rest.unshare()
            try Mounting.isolatePropagation(follows: plan.followsHostMounts)
            if rest.contains(.network) {
                if clinux_bring_up_loopback() != 0 { throw .last("bring up the loopback interface") }
                Self.openNetwork()
            }
            if let name = plan.hostName, rest.contains(.uts), sethostname(name, name.utf8.count) != 0 { throw .last("set the host name") }
        } catch {
            throw .step("entering namespaces", error, hint: "`singularity doctor` tells what this host refuses")
        }
        try groupNetwork?.attach()
        try network?.connect()
    }

    /// --netns-path
    private func join(_ path: String) throws(RuntimeError) {
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            guard clinux_setns(file.rawValue, CInt(truncatingIfNeeded: Namespaces.network.rawValue)) == 0 else { throw .last("join") }
        } catch {
            throw .badOption(
                "--netns-path \(path): the network namespace cannot be joined: \(error.reason); name one that is there, such as /proc/PID/ns/net or /run/netns/NAME, and that belongs to you"
            )
        }
    }

    /// In a network of its own a program may have any port, and send echo requests, without a right that it would need on
    /// the host (ip(7), icmp(7)). A kernel that has no such setting does without.
    private static func openNetwork() {
        // A group that has no number in the user namespace cannot be named.
        let groups = getuid() == 0 ? "0 0" : "\(getgid()) \(getgid())"
        for (name, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", groups)] {
            guard let file = try? OwnedDescriptor.open("/proc/sys/net/ipv4/\(name)", O_WRONLY) else { continue }
            try? Files.writeAll(Array(value.utf8), to: file.rawValue, name: name)
        }
    }

    /// Mounts the image, and a layer over it where that can be had.
    /// - Returns: whether there is a layer.
    private func makeRoot(
        _ means: consuming RootMount.Means, _ layer: SessionLayer, _ mounts: inout PreparedMounts
    ) throws(RuntimeError) -> Bool {
        let isUser = plan.namespaces.contains(.user)
        let ids = (uid: getuid(), gid: getgid())
        let session: Session
        do throws(SystemError) {
            let tree = try RootMount.tree(means, isWritable: plan.rootLayer == .writable, allowsSetuid: plan.allowsSetuid)
            try images.prepare()
            session = try Session(isUserNamespace: isUser, size: plan.sessionSize)
            try RootMount.mount(means, tree, uid: ids.uid, gid: ids.gid, allowsSetuid: plan.allowsSetuid)
            try images.mount(uid: ids.uid, gid: ids.gid)
        } catch { throw .step("mounting the image", error, hint: "`singularity doctor` tells what this host refuses") }
        try mounts.makeSessionParts(
            DeviceFolder(
                hasIPC: plan.namespaces.contains(.ipc), isUserNamespace: isUser,
                hasTerminals: !plan.hidesTerminals, others: plan.devices))
        let files = plan.files.map { (path: $0.path, content: $0.content) }
        switch try layLayers(session, layer) {
        case .overlay:
            // What an overlay brings must not hide the generated files.
            if !plan.overlays.isEmpty { try mounts.addFiles(files) }
            return true
        case .underlay:
            try mounts.addFiles(files)
            return true
        case .none:
            try mounts.addFiles(files)
            return false
        }
    }

    private enum Laid { case overlay, underlay, none }

    private func layLayers(_ session: Session, _ layer: SessionLayer) throws(RuntimeError) -> Laid {
        if plan.rootLayer == .writable || plan.layerKind == .none { return .none }
        let mayDoWithout = plan.rootLayer == .readOnly && plan.overlays.isEmpty
        if plan.layerKind != .underlay {
            do throws(SystemError) {
                try session.write(layer)
                let layers = try images.layers(session, plan)
                do throws(SystemError) {
                    if plan.layerKind == .fuseOverlay {
                        throw SystemError("use the kernel's overlay", errno: EOPNOTSUPP)
                    }
                    try session.mountOverlay(layers, allowsSetuid: plan.allowsSetuid)
                } catch {
                    if mayDoWithout && plan.layerKind != .fuseOverlay { throw error }
                    log.verbose("no kernel overlay (\(error)); trying fuse-overlayfs")
                    try session.mountFuseOverlay(layers, withoutACLs: images.hasExt)
                }
                return .overlay
            } catch {
                guard mayDoWithout else {
                    throw .step(
                        "laying the changes over the image (\(plan.rootLayer == .writableTmpfs ? "--writable-tmpfs" : "--overlay"))",
                        error,
                        hint:
                            "the kernel takes no overlay on this file system; install fuse-overlayfs, or use a directory on another one. `singularity doctor` tells what this host refuses"
                    )
                }
                log.verbose("no overlay: \(error); missing mount points are made by bind mounts")
            }
        }
        do throws(SystemError) { try Underlay(layer: layer, view: view).make() } catch {
            log.verbose("no underlay: \(error); missing mount points cannot be added")
            return .none
        }
        return .underlay
    }

    /// - Returns: its path.
    private func enterWorkingDirectory() throws(RuntimeError) -> String {
        for (index, path) in plan.workingDirectories.enumerated() {
            // The kernel says of a directory that the root does not lead to that it is unreachable.
            if chdir(path) == 0, let found = Files.workingDirectory, found.hasPrefix("/") {
                if index > 0 && path != "/" {
                    log.verbose("\(plan.workingDirectories[0]) is not in the container; starting in \(path)")
                }
                return found
            }
            if plan.workingDirectoryIsRequired {
                throw .noDirectory(path, SystemError.last("").reason)
            }
        }
        _ = chdir("/")
        return "/"
    }
}
