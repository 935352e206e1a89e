import CLinux
import Glibc
import Linux
import Messages

/// A script that runs as root in a writable view of an image, without root: a section of a definition file.
public struct SectionRun: Sendable {
    /// Where the script runs.
    public enum Place: Sendable, Equatable {
        /// In the container.
        case container
        /// On the host, with the container's tree in reach.
        case host
    }

    /// Images and directories that the view is made of, the newest first.
    public var lowers: [ImageFile]
    public var identity: BuildIdentity
    /// A directory of the host for changes, with room on a disk.
    public var work: WorkFolder
    public var place: Place
    /// The words of the program; the script's path is one of them.
    public var program: [String]
    /// Text of the script.
    public var script: String
    /// Where the script is, in the container or on the host.
    public var scriptPath: String
    /// All variables of the program.
    public var environment: [String: String]
    public var binds: [BindSpec]
    /// Files of drivers; the places that are made for them do not stay.
    public var drivers: [BindSpec]
    /// Packages of earlier builds, for a section in the container that works on a layer over the lowers.
    public var packages: PackageStore?
    /// Descriptors that become its standard output and standard error; nil for those of this process.
    public var output: (output: CInt, errors: CInt)?
    /// A tree that is changed itself, in the place of a layer over the lowers.
    public var writableTree: String?

    /// The script in a container.
    public static let containerScript = "/.post.script"

    public init(lowers: [ImageFile], identity: BuildIdentity, work: WorkFolder, script: String) {
        self.lowers = lowers
        self.identity = identity
        self.work = work
        self.script = script
        place = .container
        program = ["/bin/sh", "-ex", Self.containerScript]
        scriptPath = Self.containerScript
        environment = [:]
        output = nil
        binds = []
        drivers = []
    }

    /// How a section ended, as its own process hands it on.
    public enum Outcome: Equatable {
        /// The script's exit status, or 128 + the signal that ended it.
        case ended(Int32)
        /// The host mounts no image, or lays no overlay over one; why.
        case noOverlay(String)
        /// Told on standard error already.
        case failed
    }

    /// Exit status of the worker where the host has no overlay.
    private static let noOverlayStatus: Int32 = 254
    private static let failureStatus: Int32 = 255
    /// The first process says that fuse-overlayfs serves the view.
    private static let fuseMark = "fuse-overlayfs"

    /// Runs the script in a process of its own, and then, where it has succeeded, `harvest` in the same user namespace.
    /// Only for a process with one thread.
    /// - Parameters:
    ///   - harvest: takes the changes; may start threads.
    public func run(_ log: Log, harvest: (Changes) throws -> Void) throws -> Outcome {
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw SystemError.last("pipe") }
        let result = OwnedDescriptor(ends[0])
        let report = ends[1]
        let worker = try Process.fork {
            close(ends[0])
            Process.dieWithParent()
            do {
                let status = try work(log, harvest)
                try Files.writeAll(Array("\(status)".utf8), to: report, name: "pipe")
                exit(0)
            } catch let error as OverlayRefused {
                try? Files.writeAll(Array("\(error.cause)".utf8), to: report, name: "pipe")
                exit(Self.noOverlayStatus)
            } catch {
                log.fatal("\(error)")
                exit(Self.failureStatus)
            }
        }
        close(report)
        Process.awaited = worker
        defer { Process.awaited = 0 }
        let text = String(decoding: try Files.read(result, name: "pipe"), as: UTF8.self)
        let status = Process.wait(for: worker)
        if let number = Int32(text), status == 0 { return .ended(number) }
        return (status >> 8) & 0xff == Self.noOverlayStatus ? .noOverlay(text) : .failed
    }

    /// What a section has changed.
    public struct Changes {
        /// The upper directory, as this process sees it.
        public var upper: String
        /// Owners of links, pipes and sockets, by inode number in the upper directory.
        public var others: [UInt64: Owner]

        /// Deletions are files with `.wh.` before their names, as fuse-overlayfs makes them.
        public var hasMarkers: Bool

        public init(upper: String, others: [UInt64: Owner] = [:], hasMarkers: Bool = false) {
            self.upper = upper
            self.others = others
            self.hasMarkers = hasMarkers
        }

        public struct Owner: Equatable, Sendable {
            public var uid: UInt32
            public var gid: UInt32
        }
    }

    /// The overlay could not be mounted.
    struct OverlayRefused: Error {
        let cause: any Error
    }

    // MARK: In the worker

    private func work(_ log: Log, _ harvest: (Changes) throws -> Void) throws -> Int32 {
        try identity.enter()
        // The worker must hear of its children, whatever the caller ignores.
        signal(SIGCHLD, SIG_DFL)
        umask(0)
        try work.prepare(isRecorded: identity == .recorded, in: writableTree)
        // The section may reach these by the host's /tmp, and put something else in their places.
        let upper = try OwnedDescriptor.open(writableTree ?? work.upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        let hold = try OwnedDescriptor.open(work.packages, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        let changedRoot = try ChangedRoot.isNeeded ? changeRoot() : nil
        if place == .container { try writeScript(upper) }
        var means: [SectionRoot.Layer] = []
        // A host without /dev/fuse has no view to offer, as one without overlays.
        do { for lower in lowers { means.append(try SectionRoot.Layer(lower, identity, log)) } } catch {
            throw OverlayRefused(cause: error)
        }
        let root = SectionRoot(run: self, log: log)
        let records = OwnedDescriptor(clinux_memfd("owners"))
        guard records.rawValue >= 0 else { throw SystemError.last("memfd_create") }
        let usesNewPID = root.mayHaveProcesses
        let recordsNumber = records.rawValue
        let box = means
        var failure: [CInt] = [0, 0]
        guard clinux_pipe(&failure) == 0 else { throw SystemError.last("pipe") }
        let told = OwnedDescriptor(failure[0])
        let child = try Process.fork {
            Process.dieWithParent()
            close(failure[0])
            do {
                // A process that makes a PID namespace can have no threads afterwards, and the worker needs some.
                if usesNewPID { try Self.becomeInit() }
                if let changedRoot {
                    if place == .container { try changedRoot.enter() }
                } else if try root.enter(box, newPID: usesNewPID) {
                    log.warning("the kernel lays no overlay over an image in \(self.work.path); fuse-overlayfs does it, which is slower")
                    try Files.writeAll(Array(Self.fuseMark.utf8), to: failure[1], name: "pipe")
                }
                close(failure[1])
                try SectionInit(run: self, log: log).run(records: recordsNumber)
            } catch let error as OverlayRefused {
                try? Files.writeAll(Array("overlay \(error.cause)".utf8), to: failure[1], name: "pipe")
                _exit(255)
            } catch {
                log.fatal("\(error)")
                try? Files.writeAll(Array("failed".utf8), to: failure[1], name: "pipe")
                _exit(255)
            }
        }
        close(failure[1])
        for layer in means { layer.giveAway() }
        means = []
        let message = String(decoding: try Files.read(told, name: "pipe"), as: UTF8.self)
        // The section begins now.
        let watch = message.isEmpty && packages != nil ? try PackageWatch(upper, hold: hold) : nil
        let status = Process.wait(for: child)
        if let watch { packages?.collect(watch.finish(), from: hold) }
        changedRoot?.leave()
        if message.hasPrefix("overlay ") { throw OverlayRefused(cause: RuntimeError.badOption(String(message.dropFirst(8)))) }
        let usesFuse = message == Self.fuseMark
        if !message.isEmpty && !usesFuse { exit(Self.failureStatus) }
        let code = Process.exitCode(status)
        if code == 0 {
            if place == .container { removePlaces(upper) }
            try harvest(
                Changes(
                    upper: "/proc/self/fd/\(upper.rawValue)/.", others: try OwnerList.read(records.rawValue), hasMarkers: usesFuse))
        }
        return code
    }

    /// Goes on in a child that is the first process of a new PID namespace; this process ends as that one does.
    private static func becomeInit() throws(SystemError) {
        try Namespaces.pid.unshare()
        let pid = try Process.forkBound()
        if pid == 0 { return }
        Process.closeDescriptors(except: [])
        _exit(Process.exitCode(Process.wait(for: pid)))
    }

    /// Makes the tree ready where there is nothing but chroot(2).
    private func changeRoot() throws -> ChangedRoot {
        guard let tree = writableTree else {
            throw OverlayRefused(cause: RuntimeError.badOption("root may neither mount here nor make a user namespace"))
        }
        guard binds.isEmpty else {
            throw RuntimeError.badOption(
                "--bind: root may mount nothing here; %files copies what a section needs, and `singularity doctor` names the remedy")
        }
        guard drivers.isEmpty else {
            throw RuntimeError.badOption(
                "--nv, --rocm: root may mount nothing here, and so no file of a driver; `singularity doctor` names the remedy")
        }
        if place == .host {
            unlink(self.work.hostRoot)
            guard symlink(tree, self.work.hostRoot) == 0 else { throw SystemError.last("link \(self.work.hostRoot)") }
        }
        return try ChangedRoot(tree)
    }

    /// Takes out of the changes what was only made to be covered.
    private func removePlaces(_ upper: borrowing OwnedDescriptor) {
        unlinkat(upper.rawValue, Self.relative(scriptPath), 0)
        if packages != nil { unlinkat(upper.rawValue, Self.relative(PackageStore.place), AT_REMOVEDIR) }
        for bind in drivers {
            let names = bind.destination.split(separator: "/")
            let parent = "./" + names.dropLast().joined(separator: "/")
            guard let name = names.last.map(String.init),
                let folder = try? Files.open(beneath: upper.rawValue, parent, O_RDONLY | O_DIRECTORY)
            else { continue }
            var status = stat()
            guard fstatat(folder.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
            if status.st_mode & S_IFMT == S_IFREG, status.st_size == 0 { unlinkat(folder.rawValue, name, 0) }
        }
    }

    private func writeScript(_ upper: borrowing OwnedDescriptor) throws(SystemError) {
        let name = Self.relative(scriptPath)
        unlinkat(upper.rawValue, name, 0)
        let raw = openat(upper.rawValue, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o755)
        guard raw >= 0 else { throw .last("create \(scriptPath)") }
        let file = OwnedDescriptor(raw)
        try Files.writeAll(Array(script.utf8), to: file.rawValue, name: scriptPath)
    }

    private static func relative(_ path: String) -> String { String(path.drop { $0 == "/" }) }
}

/// A directory of the host in which one section's changes come together.
public struct WorkFolder: Sendable {
    public let path: String
    public init(_ path: String) { self.path = path }

    public var upper: String { path + "/upper" }
    var work: String { path + "/work" }
    /// For packages that were downloaded, while the section runs.
    var packages: String { path + "/packages" }
    /// Where the view is put together; the host's scripts find the tree below it.
    var session: String { path + "/session" }
    /// The container's tree for scripts on the host.
    public var hostRoot: String { session + "/" + Session.root }

    /// Sees to it that nothing is a link to elsewhere: sections reach these directories by the host's /tmp.
    public func check() throws(SystemError) {
        let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        for folder in [parent, path, upper, work, packages, session] {
            let status = Files.status(folder, followLinks: false)
            guard let status, status.st_mode & S_IFMT == S_IFDIR else {
                throw SystemError("use \(folder), which a section has replaced", errno: ENOTDIR)
            }
        }
    }

    func prepare(isRecorded: Bool, in tree: String?) throws(RuntimeError) {
        do throws(SystemError) {
            for folder in [path, upper, work, packages, session] { try Files.makeDirectories(folder, mode: 0o755) }
            try check()
            // A volatile overlay leaves this, and none is mounted where it is: a section that failed is entered again.
            Files.removeTree(work + "/work/incompat")
        } catch { throw .step("making a temporary directory", error, hint: "--tmpdir names another place") }
        guard isRecorded else { return }
        // Without a place for records every owner would be lost: better nothing than a wrong image.
        let status = (tree ?? upper).withCString { path in
            setxattr(path, OwnerRecord.attribute, "0:1", 3, 0) == 0 && removexattr(path, OwnerRecord.attribute) == 0 ? 0 : errno
        }
        if status != 0 {
            throw .step(
                "recording owners in \(path)", SystemError("set an extended attribute", errno: status),
                hint: "name a directory on a disk that has user attributes (ext4, xfs, btrfs) with --tmpdir, or get ranges in /etc/subuid")
        }
    }
}

/// Passes owners from the process that has seen them to the one that writes the layer.
enum OwnerList {
    static func write(_ owners: [UInt64: OwnerEmulation.Owner], to descriptor: CInt) {
        let text = owners.map { "\($0.key) \($0.value.uid) \($0.value.gid)\n" }.joined()
        try? Files.writeAll(Array(text.utf8), to: descriptor, name: "owners")
    }

    static func read(_ descriptor: CInt) throws(SystemError) -> [UInt64: SectionRun.Changes.Owner] {
        lseek(descriptor, 0, SEEK_SET)
        let copy = OwnedDescriptor(dup(descriptor))
        let text = String(decoding: try Files.read(copy, name: "owners", limit: 1 << 30), as: UTF8.self)
        var out: [UInt64: SectionRun.Changes.Owner] = [:]
        for line in text.split(separator: "\n") {
            let numbers = line.split(separator: " ").compactMap { UInt64($0) }
            guard numbers.count == 3 else { continue }
            out[numbers[0]] = .init(uid: UInt32(truncatingIfNeeded: numbers[1]), gid: UInt32(truncatingIfNeeded: numbers[2]))
        }
        return out
    }
}
