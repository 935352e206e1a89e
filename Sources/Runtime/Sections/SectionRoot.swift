import Glibc
import Linux
import Messages
import SquashFS

/// Puts together what a section works on: lower images, a layer for changes, and the mounts of a build.
struct SectionRoot {
    let run: SectionRun
    let log: Log

    /// The means by which one lower image is mounted. A class, as it goes through the fork of the section's first process.
    final class Layer {
        private var means: RootMount.Means?

        init(_ image: ImageFile, _ identity: BuildIdentity, _ log: Log) throws {
            means = try Self.means(image, identity, log)
        }

        private static func means(_ image: ImageFile, _ identity: BuildIdentity, _ log: Log) throws -> RootMount.Means {
            switch image.content {
            case .directory(let folder): return .directory(folder.rawValue, path: image.path)
            case .ext: throw RuntimeError.badImage(image.path, why: "a build works on its SquashFS, not on an ext file system")
            case .squashFS(let squashFS, let file, let offset, let size):
                if identity == .root, let loop = LoopDevice.means(file.rawValue, offset, size, log) { return loop }
                return .server(
                    try ImageServer.fork(
                        squashFS, file: file.rawValue,
                        ImageServer.Settings(
                            ownership: identity.ownership, threads: min(4, MachineLimits.processors),
                            seesClients: false, isOrphan: true, warmUp: [])))
            }
        }

        func take() -> RootMount.Means { means.take() ?? .directory(-1, path: "") }
        /// Forgets this process's copies of the descriptors.
        func giveAway() { _ = means.take() }
    }

    /// Whether a new instance of /proc can be had, and with it a PID namespace.
    var mayHaveProcesses: Bool {
        // What hides parts of /proc forbids new ones in a user namespace; then the host's processes are seen.
        guard run.identity != .root else { return !ChangedRoot.isNeeded }
        let child = try? Process.fork {
            do throws(SystemError) { try Namespaces.mount.unshare() } catch { _exit(1) }
            _exit(DetachedMount.trialOfProc())
        }
        guard let child else { return false }
        return Process.wait(for: child) == 0
    }

    /// Enters the view: mounts everything and, for a script in the container, makes it the root directory.
    /// - Returns: whether fuse-overlayfs serves it, which marks deletions in its own way.
    func enter(_ layers: [Layer], newPID: Bool) throws -> Bool {
        do throws(SystemError) {
            try Namespaces.mount.unshare()
            try Mounting.isolatePropagation()
        } catch { throw RuntimeError.step("entering namespaces", error, hint: "`singularity doctor` tells what this host refuses") }
        let mounts = run.place == .container ? plannedMounts(newPID: newPID) : []
        var prepared = try PreparedMounts(mounts, log)
        let usesFuse = try mountRoot(layers)
        guard run.place == .container else {
            guard newPID else { return usesFuse }
            // Its processes are all that a script on the host sees, so that all of them end with it.
            do throws(SystemError) { try Mounting.mount("proc", source: "proc", on: "/proc", flags: [.noSuid, .noDev, .noExec]) } catch {
                throw RuntimeError.step("mounting /proc for a script on the host", error, hint: "")
            }
            return usesFuse
        }
        do throws(SystemError) {
            for mount in mounts { try makePlace(mount) }
            if let packages = run.packages {
                try packages.offer(in: OwnedDescriptor.open(Session.root, O_RDONLY | O_DIRECTORY), besides: run.binds)
            }
        } catch { throw RuntimeError.step("preparing the container's root", error, hint: "") }
        try prepared.addFiles(files)
        do throws(SystemError) {
            guard chdir(Session.root) == 0 else { throw .last("enter the container's root") }
            try Mounting.pivotToWorkingDirectory()
        } catch { throw RuntimeError.step("changing the root directory", error, hint: "") }
        try prepared.attach(unreachable: [:], missingIsWarned: false)
        return usesFuse
    }

    /// Mounts the lowers and the layer. Paths of the host stay in reach.
    private func mountRoot(_ layers: [Layer]) throws -> Bool {
        var usesFuse = false
        let caller = Files.workingDirectory
        do throws(SystemError) {
            // The kernel wants the upper directory in a mount of this namespace, by a path that the session does not cover.
            let upper = try OwnedDescriptor.open(run.work.upper, O_RDONLY | O_DIRECTORY)
            let work = try OwnedDescriptor.open(run.work.work, O_RDONLY | O_DIRECTORY)
            var tree: DetachedMount? = nil
            if let path = run.writableTree {
                let copy = try DetachedMount(copyOf: path, recursive: true)
                try copy.restrict([.noSuid, .noDev], recursive: true)
                tree = .some(copy)
            }
            var copies: [(Layer, DetachedBox)] = []
            for layer in layers { copies.append((layer, try DetachedBox(layer))) }
            _ = try Session(isUserNamespace: run.identity != .root, place: run.work.session)
            if let tree {
                try tree.attach(to: Session.root)
                if run.place == .host, let caller { _ = chdir(caller) }
                return false
            }
            var names: [String] = []
            for (index, (layer, box)) in copies.enumerated() {
                let name = "lower\(index)"
                try Session.makeDirectory(name, mode: 0o755)
                try RootMount.mount(box.means(of: layer), box.tree(), on: name, uid: 0, gid: 0)
                names.append(name)
            }
            if names.isEmpty {
                try Session.makeDirectory("nothing", mode: 0o755)
                names = ["nothing"]
            }
            do throws(SystemError) {
                try Self.mountOverlay(lowers: names, upper: upper.rawValue, work: work.rawValue)
            } catch {
                guard let program = FuseOverlay.program else { throw error }
                try FuseOverlay.mount(program, lowers: names, upper: upper.rawValue, work: work.rawValue, on: Session.root)
                usesFuse = true
            }
        } catch {
            throw SectionRun.OverlayRefused(cause: error)
        }
        if run.place == .host, let caller { _ = chdir(caller) }
        return usesFuse
    }

    /// Lays the kernel's overlay over the lowers, one that writes nothing to the disk when it is asked to synchronise or
    /// when it ends.
    ///
    /// What a section has changed is read right after it, and is worth nothing after a power cut; package managers ask
    /// for each file. Without the option (Linux 5.10; overlayfs.rst, "Volatile mount") the end of the mount waits for
    /// all that anybody has written to that disk.
    private static func mountOverlay(lowers: [String], upper: CInt, work: CInt) throws(SystemError) {
        let options =
            "lowerdir=\(lowers.joined(separator: ":")),upperdir=/proc/self/fd/\(upper),workdir=/proc/self/fd/\(work),userxattr"
        do throws(SystemError) {
            try Mounting.mount(
                "overlay", source: "overlay", on: Session.root, flags: [.noSuid, .noDev], options: options + ",volatile")
        } catch  where error.errno == EINVAL {
            try Mounting.mount("overlay", source: "overlay", on: Session.root, flags: [.noSuid, .noDev], options: options)
        }
    }

    /// Carries a detached tree, which cannot be in an array, from before the session to after it.
    private final class DetachedBox {
        private var mount: DetachedMount?
        private var taken: RootMount.Means?

        init(_ layer: Layer) throws(SystemError) {
            let means = layer.take()
            mount = try RootMount.tree(means, isWritable: false)
            taken = .some(means)
        }

        func means(of layer: Layer) -> RootMount.Means { taken.take() ?? layer.take() }
        func tree() -> DetachedMount? { mount.take() }
    }

    // MARK: What a build sees of the host

    private func plannedMounts(newPID: Bool) -> [PlannedMount] {
        var mounts: [PlannedMount] = []
        func bind(_ source: String, _ destination: String, readOnly: Bool = false, isRequired: Bool = false, _ reason: String) {
            mounts.append(
                PlannedMount(.bind(source: source, readOnly: readOnly), destination, isRequired: isRequired, reason: reason))
        }
        bind("/dev", "/dev", "devices of the host")
        if newPID {
            mounts.append(PlannedMount(.proc, "/proc", isRequired: true, reason: "processes of the section"))
        } else {
            bind("/proc", "/proc", "processes of the host")
        }
        bind("/sys", "/sys", "kernel objects of the host")
        bind("/tmp", "/tmp", "temporary files of the host")
        bind("/var/tmp", "/var/tmp", "temporary files of the host")
        for spec in run.binds {
            bind(spec.source, spec.destination, readOnly: spec.isReadOnly, isRequired: true, "--bind")
        }
        for spec in run.drivers { bind(spec.source, spec.destination, readOnly: true, "file of a driver") }
        if let packages = run.packages { bind(packages.folder, PackageStore.place, readOnly: true, "packages of earlier builds") }
        return mounts
    }

    /// What a section needs to find other hosts.
    static let nameServiceFiles = ["/etc/resolv.conf", "/etc/hosts"]

    /// Name service files of the host, unless a bind covers them.
    private var files: [(path: String, content: [UInt8])] {
        Self.nameServiceFiles.compactMap { path in
            if run.binds.contains(where: { $0.destination == path }) { return nil }
            guard Files.status(Session.root + path) != nil else { return nil }
            guard let content = try? Files.read(path, limit: 1 << 20) else { return nil }
            return (path, content)
        }
    }

    /// Makes the place of a mount where the image has none. Links are followed inside the container only.
    private func makePlace(_ mount: PlannedMount) throws(SystemError) {
        let root = try OwnedDescriptor.open(Session.root, O_RDONLY | O_DIRECTORY)
        let path = mount.destination
        if (try? Files.open(inRoot: root.rawValue, path, O_PATH_FLAG)) != nil { return }
        if PreparedMounts.areDirectories([mount])[0] {
            _ = try Self.makeFolder(path, in: root.rawValue)
            return
        }
        let names = path.split(separator: "/").map(String.init)
        guard let name = names.last else { return }
        let parent = try Self.makeFolder(names.dropLast().joined(separator: "/"), in: root.rawValue)
        let file = openat(parent.rawValue, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
        guard file >= 0 else { throw .last("create \(path) in the container") }
        close(file)
    }

    /// Opens a directory of the container, which is made with its parents where the image has none.
    static func makeFolder(_ path: String, in root: CInt) throws(SystemError) -> OwnedDescriptor {
        var folder = try Files.open(inRoot: root, ".", O_RDONLY | O_DIRECTORY)
        var way = ""
        for name in path.split(separator: "/") {
            way += "/\(name)"
            guard mkdirat(folder.rawValue, String(name), 0o755) == 0 || errno == EEXIST else {
                throw .last("create \(way) in the container")
            }
            folder = try Files.open(inRoot: root, way, O_RDONLY | O_DIRECTORY)
        }
        return folder
    }
}
