import CLinux
import FUSEServer
import Glibc
import Linux
import Messages
import SquashFS

/// Starts a container: carries out a launch plan with system calls.
///
/// The calling process has one thread and becomes the program, so its exit status, signals and terminal are the
/// program's own. Only a PID namespace needs processes around it.
public struct Launcher {
    private let options: RunOptions
    private let facts: HostFacts
    private let log: Log
    /// Where unpacked images are kept, for hosts that let nobody mount one.
    private let extractionFolder: String

    public init(_ options: RunOptions, _ facts: HostFacts, extractionFolder: String, _ log: Log) {
        self.options = options
        self.facts = facts
        self.extractionFolder = extractionFolder
        self.log = log
    }

    /// Becomes the program.
    public func launch() throws -> Never {
        var image = try ImageFile.open(options.image, workingDirectory: facts.workingDirectory)
        let namespaces = LaunchPlanner.namespaces(options, facts)
        let isUserNamespace = namespaces.contains(.user)
        if isUserNamespace {
            do { try UserNamespace.enter(uid: facts.uid, gid: facts.gid) } catch {
                throw RuntimeError.step(
                    "creating a user namespace", error,
                    hint: "this host does not let ordinary users create containers; `singularity doctor` names the setting and the remedy")
            }
        }
        var isSupervised = namespaces.contains(.pid) || !ContainerInit.hostCollectsOrphans
        // The server gets ready, on another processor, while this process makes the plan.
        let box = MeansBox(try rootMeans(image, namespaces, isSupervised: isSupervised))
        if box.isEmpty {
            try extract(&image)
            guard case .directory(let folder) = image.content else { throw RuntimeError.badImage(image.path, why: "it cannot be unpacked") }
            box.put(.directory(folder.rawValue, path: image.path))
            // This process stays, and with it the mark that says that the copy is in use.
            isSupervised = true
        }
        var planner = LaunchPlanner(options, facts, image)
        let plan = try planner.plan()
        let environment = Self.scripts(plan, planner.view)
        log.debug("namespaces: \(plan.namespaces.names.joined(separator: ", "))")
        for mount in plan.mounts { log.debug("mount \(mount.destination): \(mount.reason)") }
        let start = Start(plan: plan, view: planner.view, environment: environment, facts: facts, log: log)
        guard isSupervised else { try start.becomeProgram(box.take()) }
        try ContainerInit.supervise(newNamespace: namespaces.contains(.pid), server: box.server) {
            start.becomeProgramOrExit(box.take())
        } afterFork: {
            // The child has the means; a copy here would keep the kernel waiting for a server that has died.
            _ = box.take()
        }
    }

    /// Carries a value that cannot be copied into the child of a fork.
    private final class MeansBox {
        private var means: RootMount.Means?
        var isEmpty: Bool { means == nil }
        /// The image server, where it is a child of this process.
        var server: pid_t? { means?.server }
        init(_ means: consuming RootMount.Means?) { self.means = means }
        func put(_ means: consuming RootMount.Means) { self.means = .some(means) }
        /// Once; nothing is left of it for a second time.
        func take() -> RootMount.Means { means.take() ?? .directory(-1, path: "") }
    }

    /// The environment scripts, read from the image before anything is mounted: that costs no round trip to a server.
    private static func scripts(_ plan: LaunchPlan, _ view: RootView) -> EnvironmentScripts {
        let folder = "/.singularity.d/env"
        var files: [(name: String, text: String)] = []
        for name in view.names(in: folder) where name.hasSuffix(".sh") {
            guard let text = view.read("\(folder)/\(name)") else { continue }
            files.append((name, String(decoding: text, as: UTF8.self)))
        }
        return EnvironmentScripts(files: files, plan: plan.environment, workingDirectory: "/")
    }

    // MARK: The image

    /// Chooses how the image is mounted. Nil where the host allows no way.
    private func rootMeans(_ image: ImageFile, _ namespaces: Namespaces, isSupervised: Bool) throws -> RootMount.Means? {
        switch image.content {
        case .directory(let folder): return .some(.directory(folder.rawValue, path: image.path))
        case .squashFS(let squashFS, let file, let offset, let size):
            if options.unpack { return .none }
            let isUserNamespace = namespaces.contains(.user)
            if !isUserNamespace, let loop = LoopDevice.means(file.rawValue, offset, size, log) { return loop }
            do throws(SystemError) {
                let server = try ImageServer.fork(
                    squashFS, file: file.rawValue,
                    ImageServer.Settings(
                        ownership: isUserNamespace ? .single(uid: facts.uid, gid: facts.gid) : .asStored,
                        threads: min(8, MachineLimits.processors), seesClients: !namespaces.contains(.pid), isOrphan: !isSupervised,
                        warmUp: WarmUp.paths(options.action)))
                return .some(.server(server))
            } catch {
                log.warning(
                    "this host lets \(facts.account?.name ?? "this user") mount no image (\(error)); using an unpacked copy instead. `singularity doctor` names the remedy"
                )
                return .none
            }
        }
    }

    /// Puts an unpacked copy in the place of an image file.
    private func extract(_ image: inout ImageFile) throws {
        guard case .squashFS(let squashFS, let file, let offset, _) = image.content else {
            throw RuntimeError.badImage(image.path, why: "it cannot be unpacked")
        }
        let path = try ExtractedImage.directory(
            of: squashFS, file: file.rawValue, offset: offset, in: extractionFolder, log)
        log.verbose("using the unpacked copy \(path)")
        let folder = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY))
        flock(folder.rawValue, LOCK_SH | LOCK_NB)
        image = ImageFile(path: path, content: .directory(folder))
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
