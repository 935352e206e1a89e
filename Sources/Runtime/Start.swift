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
    let log: Log

    /// For a forked child, whose errors nobody else can report.
    func becomeProgramOrExit(_ means: consuming RootMount.Means) -> Never {
        do { try becomeProgram(means) } catch {
            log.fatal("\(error)")
            _exit(255)
        }
    }

    func becomeProgram(_ means: consuming RootMount.Means) throws(RuntimeError) -> Never {
        try enterNamespaces()
        var mounts = try PreparedMounts(plan.mounts, log)
        let layer = SessionLayer(plan, view, isDirectory: PreparedMounts.areDirectories(plan.mounts))
        let hasLayer = try makeRoot(means, layer, &mounts)
        do throws(SystemError) {
            guard chdir(hasLayer ? Session.root : Session.image) == 0 else { throw .last("enter the container's root") }
            try Mounting.pivotToWorkingDirectory()
        } catch { throw .step("changing the root directory", error, hint: "") }
        try mounts.attach(unreachable: layer.unreachable, missingIsWarned: !hasLayer)
        let directory = try enterWorkingDirectory()
        try dropRights()
        umask(mode_t(plan.umask))
        var environment = environment
        environment.workingDirectory = directory
        let payload = Payload(action: plan.action, environment: environment, log: log)
        guard plan.usesInit else { try payload.execute() }
        do throws(SystemError) {
            try ContainerInit.runAsInit {
                do throws(RuntimeError) { try payload.execute() } catch {
                    log.fatal("\(error)")
                    _exit(255)
                }
            }
        } catch { throw .step("starting the program", error, hint: "") }
    }

    private func enterNamespaces() throws(RuntimeError) {
        let rest = plan.namespaces.subtracting([.user, .pid])
        do throws(SystemError) {
            try rest.unshare()
            try Mounting.isolatePropagation()
            if rest.contains(.network), clinux_bring_up_loopback() != 0 { throw .last("bring up the loopback interface") }
            if let name = plan.hostName, sethostname(name, name.utf8.count) != 0 { throw .last("set the host name") }
        } catch {
            throw .step("entering namespaces", error, hint: "`singularity doctor` tells what this host refuses")
        }
    }

    /// Mounts the image, and a layer over it where that can be had.
    /// - Returns: whether there is a layer.
    private func makeRoot(
        _ means: consuming RootMount.Means, _ layer: SessionLayer, _ mounts: inout PreparedMounts
    ) throws(RuntimeError) -> Bool {
        let isUser = plan.namespaces.contains(.user)
        let session: Session
        do throws(SystemError) {
            let tree = try RootMount.tree(means, isWritable: plan.rootLayer == .writable)
            session = try Session(isUserNamespace: isUser)
            try RootMount.mount(means, tree, uid: facts.uid, gid: facts.gid)
        } catch { throw .step("mounting the image", error, hint: "`singularity doctor` tells what this host refuses") }
        try mounts.makeSessionParts(DeviceFolder(hasIPC: plan.namespaces.contains(.ipc), isUserNamespace: isUser))
        if plan.rootLayer != .writable {
            do throws(SystemError) {
                try session.write(layer)
                try session.mountOverlay(plan.rootLayer)
                return true
            } catch {
                if plan.rootLayer == .writableTmpfs {
                    throw .step(
                        "making the writable layer (--writable-tmpfs)", error, hint: "`singularity doctor` tells what this host refuses")
                }
                log.verbose("no overlay: \(error); missing mount points cannot be added")
            }
        }
        try mounts.addFiles(plan.files)
        return false
    }

    /// - Returns: its path.
    private func enterWorkingDirectory() throws(RuntimeError) -> String {
        for (index, path) in plan.workingDirectories.enumerated() {
            if chdir(path) == 0 {
                if index > 0 && path != "/" {
                    log.verbose("\(plan.workingDirectories[0]) is not in the container; starting in \(path)")
                }
                return Files.workingDirectory ?? path
            }
            if plan.workingDirectoryIsRequired {
                throw .step(
                    "setting the working directory \(path)", SystemError.last("chdir \(path)"),
                    hint: "--pwd names a directory of the container")
            }
        }
        return "/"
    }

    private func dropRights() throws(RuntimeError) {
        guard facts.uid != 0 else { return }
        do throws(SystemError) {
            try Process.dropCapabilities()
            try Process.forbidNewPrivileges()
        } catch { throw .step("giving up rights", error, hint: "") }
    }
}
