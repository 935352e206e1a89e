import CLinux
import FUSEServer
import Glibc
import Linux
import Messages
import SquashFS

/// Starts a container: carries out a launch plan with system calls.
///
/// The calling process has one thread and becomes the program, so its exit status, signals and terminal are the
/// program's own. What needs processes around it (PID namespaces, limits, networks, instances) gets a supervisor.
public struct Launcher {
    private var options: RunOptions
    private let facts: HostFacts
    private let log: Log
    /// Where unpacked images are kept, for hosts that let nobody mount one.
    private let extractionFolder: String

    public init(_ options: RunOptions, _ facts: HostFacts, extractionFolder: String, _ log: Log) {
        self.options = options
        if options.scheduler { self.options.hostCommands = HostCommands(facts) }
        self.facts = facts
        self.extractionFolder = extractionFolder
        self.log = log
    }

    /// What would be done. Only an ext image is mounted for it, as there is no other way to look into one.
    public func explanation() throws -> LaunchPlan {
        // The plan names sockets that nobody will make.
        defer { RuntimeFolder.removeIfEmpty() }
        var image = try openImage()
        var options = options.adding(image)
        let identity = try RunIdentity.choose(options, facts)
        if HostNames.areWanted(options, facts, identity) { options.hostNames = HostNames.Place() }
        if case .ext = image.content {
            try enter(identity)
            _ = try mountExt(&image, identity)
        }
        var planner = try LaunchPlanner(options, facts, image)
        return try planner.plan()
    }

    private func openImage() throws(RuntimeError) -> ImageFile {
        let image = try ImageFile.open(options.image, workingDirectory: facts.workingDirectory, keys: options.keys)
        try ImagePolicy(configuration: options.configuration).check(image)
        return try options.verification?.check(image, isWritten: options.writable, log) ?? image
    }

    /// What this container is, for those that a lease refuses while it runs.
    private var note: String {
        let what = options.instance.map { "the instance \($0.name)" } ?? "a container"
        let job = Environment["SLURM_JOB_ID"].map { " of job \($0)" } ?? ""
        return "\(what)\(job) of user \(facts.account?.name ?? "\(facts.uid)")"
    }

    /// Becomes the program.
    /// - Parameter instance: the other side of an instance's start, which wants to know how it went.
    public func launch(_ instance: InstanceStart? = nil) throws -> Never {
        let image = try openImage()
        var launcher = self
        launcher.options = options.adding(image)
        try launcher.launch(image, instance)
    }

    private func launch(_ opened: ImageFile, _ instance: InstanceStart?) throws -> Never {
        var image = opened
        let identity = try RunIdentity.choose(options, facts)
        var options = options
        if HostNames.areWanted(options, facts, identity) {
            options.hostNames = HostNames.join()
            if options.hostNames == nil {
                log.warning(
                    "the names of the host's users and groups are not seen in the container: the process that tells them cannot be started")
            }
        }
        let namespaces = LaunchPlanner.namespaces(options, facts, identity)
        let network = try NetworkHelper.prepare(options, namespaces, log)
        let groupNetwork = try options.group.map { (name) throws(RuntimeError) in
            try GroupNetwork.join(name, as: options.instance?.name ?? "")
        }
        let host = try hostCommands()
        let shared = requestShared(image, identity)
        var isSupervised =
            namespaces.contains(.pid) || network != nil || groupNetwork != nil || host != nil || !options.limits.isEmpty
            || options.instance != nil
            || needsOwnServers(image, isShared: shared.isThere) && !ContainerInit.hostCollectsOrphans
        func mounting() -> ImageMounting {
            ImageMounting(
                identity: identity, isSupervised: isSupervised, sharesProcesses: !namespaces.contains(.pid),
                allowsKernel: options.configuration.has("allow kernel extfs"), note: note, keys: options.keys, log: log)
        }
        let box = MeansBox(nil)
        if !shared.isThere {
            try enter(identity)
            // The server gets ready, on another processor, while this process makes the plan.
            if let means = try privateMeans(&image, mounting(), &isSupervised) { box.put(means) }
        }
        var planner = try LaunchPlanner(options, facts, image)
        var plan = try planner.plan()
        if shared.isThere {
            if let tree = shared.receive(identity) {
                box.put(.tree(tree))
            } else {
                log.verbose("the image's shared mount could not be had; serving it for this container alone")
                try enter(identity)
                isSupervised = isSupervised || !ContainerInit.hostCollectsOrphans
                if let means = try privateMeans(&image, mounting(), &isSupervised) { box.put(means) }
                planner = try LaunchPlanner(options, facts, image)
                plan = try planner.plan()
            }
        }
        for warning in plan.warnings { log.warning(warning) }
        if let warning = MPIReport.warning(facts.environment, planner.view) { log.warning(warning) }
        if let audit = AuditLog(options.configuration) {
            do { try audit.tell(plan, image, options, facts) } catch {
                throw RuntimeError.step(
                    "telling the audit log of this start (the configuration: audit log)", error, hint: "ask the administrator")
            }
        }
        let images = try MountedImages(plan, mounting())
        let environment = Self.scripts(plan.environment, planner.view)
        log.debug("namespaces: \(plan.namespaces.names.joined(separator: ", "))")
        for mount in plan.mounts { log.debug("mount \(mount.destination): \(mount.reason)") }
        let filter = plan.seccompProfile
        var seccomp: SeccompProfile?
        if let filter { seccomp = try SeccompProfile(filter, capabilities: plan.capabilities) }
        // The last thing that can fail here: nothing else would remove it.
        let group = try ControlGroup.prepare(options.limits, options.configuration, isInstance: options.instance != nil, log)
        let start = Start(
            plan: plan, view: planner.view, environment: environment, facts: facts, images: images, seccomp: seccomp, network: network,
            groupNetwork: groupNetwork, group: group, instance: instance, log: log)
        guard isSupervised else { try start.becomeProgram(box.take()) }
        let supervisor = Supervisor(
            server: box.server, network: network, host: host, address: groupNetwork?.addressText, group: group, instance: instance, log: log
        )
        try supervisor.run(newPID: namespaces.contains(.pid)) {
            start.becomeProgramOrExit(box.take())
        } afterFork: {
            // The child has the means; a copy here would keep the kernel waiting for a server that has died.
            _ = box.take()
            images.giveAway()
        }
    }

    /// The process that runs commands of the host's scheduler; nil where none is wanted, or there are none.
    private func hostCommands() throws(RuntimeError) -> HostCommandServer? {
        guard let commands = options.hostCommands, !commands.paths.isEmpty, options.configuration.has("allow scheduler") else { return nil }
        return try HostCommandServer(commands)
    }

    private func enter(_ identity: RunIdentity) throws(RuntimeError) {
        do { try identity.enter() } catch {
            throw .step(
                "creating a user namespace", error,
                hint: "this host does not let ordinary users create containers; `singularity doctor` names the setting and the remedy")
        }
    }

    /// Carries a value that cannot be copied into the child of a fork.
    private final class MeansBox {
        private var means: RootMount.Means?
        /// The image server, where it is a child of this process.
        var server: pid_t? { means?.server }
        init(_ means: consuming RootMount.Means?) { self.means = means }
        func put(_ means: consuming RootMount.Means) { self.means = .some(means) }
        /// Once; nothing is left of it for a second time.
        func take() -> RootMount.Means { means.take() ?? .directory(-1, path: "") }
    }

    /// The environment scripts, read from the image before anything is mounted: that costs no round trip to a server.
    static func scripts(_ plan: EnvironmentPlan, _ view: RootView) -> EnvironmentScripts {
        let folder = "/.singularity.d/env"
        var files: [(name: String, text: String)] = []
        for name in view.names(in: folder) where name.hasSuffix(".sh") {
            guard let text = view.read("\(folder)/\(name)") else { continue }
            files.append((name, String(decoding: text, as: UTF8.self)))
        }
        return EnvironmentScripts(files: files, plan: plan, workingDirectory: "/")
    }

    // MARK: The image

    /// A request for a shared mount that may not have been made.
    private final class Request {
        private var shared: SharedImage?
        var isThere: Bool { shared != nil }
        init(_ shared: consuming SharedImage?) { self.shared = shared }
        func receive(_ identity: RunIdentity) -> DetachedMount? {
            guard let one = shared.take() else { return nil }
            return one.receive(identity)
        }
    }

    private func requestShared(_ image: ImageFile, _ identity: RunIdentity) -> Request {
        guard !options.unpack, !options.isolatesServer, !options.allowsSetuid, options.configuration.has("share image servers"),
            !image.isEncrypted,
            case .squashFS(let squashFS, let file, let offset, let size) = image.content
        else { return Request(nil) }
        return Request(
            SharedImage.request(
                squashFS, file: file.rawValue, offset: offset, size: size, identity, warmUp: WarmUp.paths(options.action), log))
    }

    /// Whether servers are started that belong to this container alone.
    private func needsOwnServers(_ image: ImageFile, isShared: Bool) -> Bool {
        if !options.overlays.isEmpty || options.binds.contains(where: { $0.imagePath != nil }) { return true }
        if case .directory = image.content { return false }
        return !isShared
    }

    /// Mounts the image for this container alone, or unpacks it. The user namespace has been entered.
    private func privateMeans(
        _ image: inout ImageFile, _ mounting: ImageMounting, _ isSupervised: inout Bool
    ) throws -> RootMount.Means? {
        if case .ext = image.content { return .some(.tree(try mountExt(&image, mounting.identity))) }
        if case .squashFS = image.content {
            if !options.unpack {
                do { return .some(try mounting.means(of: image, warmUp: WarmUp.paths(options.action))) } catch {
                    log.warning(
                        "this host lets \(facts.account?.name ?? "this user") mount no image (\(error)); using an unpacked copy instead. `singularity doctor` names the remedy"
                    )
                }
            }
            try extract(&image)
            // This process stays, and with it the mark that says that the copy is in use.
            isSupervised = true
        }
        guard case .directory(let folder) = image.content else { throw RuntimeError.badImage(image.path, why: "it cannot be unpacked") }
        return .some(.directory(folder.rawValue, path: image.path))
    }

    /// Mounts an ext image; what has been mounted can be looked into.
    private func mountExt(_ image: inout ImageFile, _ identity: RunIdentity) throws -> DetachedMount {
        guard case .ext(let place) = image.content else { throw RuntimeError.badImage(image.path, why: "it has no ext file system") }
        let mounting = ExtMount(
            ownership: identity.ownership, isInUserNamespace: identity.isUserNamespace, allowsKernel: false, note: note, log: log)
        let tree = try mounting.mount(place, isReadOnly: true)
        let folder = SharedDescriptor(try OwnedDescriptor.open("/proc/self/fd/\(tree.descriptor)", O_RDONLY | O_DIRECTORY))
        image = ImageFile(path: image.path, content: .directory(folder), container: image.container)
        return tree
    }

    /// Puts an unpacked copy in the place of an image file.
    private func extract(_ image: inout ImageFile) throws {
        guard case .squashFS(let squashFS, let file, let offset, _) = image.content else {
            throw RuntimeError.badImage(image.path, why: "it cannot be unpacked")
        }
        guard !image.isEncrypted else {
            throw RuntimeError.badImage(image.path, why: "it is encrypted, and no copy of what is in it is left on this host's disk")
        }
        let path = try ExtractedImage.directory(
            of: squashFS, file: file.rawValue, offset: offset, in: extractionFolder, log)
        log.verbose("using the unpacked copy \(path)")
        let folder = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY))
        flock(folder.rawValue, LOCK_SH | LOCK_NB)
        image = ImageFile(path: path, content: .directory(folder), container: image.container)
    }
}

/// What the kernel can mount.
enum KernelFileSystems {
    /// A driver that is in the kernel, or can be loaded by mounting.
    static func has(_ name: String) -> Bool {
        guard let text = try? Files.readText("/proc/filesystems") else { return false }
        if text.split(separator: "\n").contains(where: { $0.split(separator: "\t").last == Substring(name) }) { return true }
        var kernel = utsname()
        uname(&kernel)
        let release = withUnsafeBytes(of: &kernel.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return Files.isDirectory("/lib/modules/\(release)/kernel/fs/\(name)")
    }
}
