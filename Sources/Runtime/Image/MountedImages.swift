import Glibc
import Linux
import Messages
import SIF
import SquashFS

/// How an image is mounted for one container: the choice of the means.
struct ImageMounting {
    let identity: RunIdentity
    /// Servers are this process's children, which collects them.
    let isSupervised: Bool
    /// Process numbers mean the same to a server and to the container.
    let sharesProcesses: Bool
    /// The kernel may mount ext file systems for root.
    let allowsKernel: Bool
    /// Who wants it, for those that a lease refuses meanwhile.
    let note: String
    /// For encrypted images.
    let keys: ImageKeys
    let log: Log

    var ext: ExtMount {
        ExtMount(
            ownership: identity.ownership, isInUserNamespace: identity.isUserNamespace, allowsKernel: allowsKernel, note: note,
            log: log)
    }

    /// A server of this container's own, or for root the kernel's driver. The user namespace has been entered.
    func means(of image: ImageFile, warmUp: [String] = []) throws -> RootMount.Means {
        switch image.content {
        case .directory(let folder): return .directory(folder.rawValue, path: image.path)
        case .ext(let place): return .tree(try ext.mount(place, isReadOnly: true))
        case .squashFS(let squashFS, let file, let offset, let size):
            if identity == .host, !image.isEncrypted, let loop = LoopDevice.means(file.rawValue, offset, size, log) { return loop }
            return .server(
                try ImageServer.fork(
                    squashFS, file: file.rawValue,
                    ImageServer.Settings(
                        ownership: identity.ownership, threads: min(8, MachineLimits.processors), seesClients: sharesProcesses,
                        isOrphan: !isSupervised, warmUp: warmUp)))
        }
    }
}

/// Overlays and data images of a plan, opened and served; made before the mount namespace is entered, as servers must
/// stay outside of it.
final class MountedImages {
    /// One of them.
    final class Part {
        enum Kind: Equatable {
            /// The path is copied in the new mount namespace.
            case directory(String)
            case ext
            case squashFS
            /// It could not be had.
            case nothing
        }

        let kind: Kind
        let isReadOnly: Bool
        private var means: RootMount.Means?

        init(_ kind: Kind, isReadOnly: Bool, _ means: consuming RootMount.Means?) {
            self.kind = kind
            self.isReadOnly = isReadOnly
            self.means = means
        }

        /// Changes of an overlay are in `upper` and `work` below it.
        var mayHaveChanges: Bool { kind != .squashFS }

        /// Copies a directory, while the host's tree is in reach.
        func prepare() throws(SystemError) {
            guard case .directory(let path) = kind else { return }
            let copy = try DetachedMount(copyOf: path, recursive: false)
            try copy.restrict(isReadOnly ? [.noSuid, .noDev, .readOnly] : [.noSuid, .noDev], recursive: false)
            means = .some(.tree(copy))
        }

        /// Mounts it at a place of the session.
        func mount(on place: String, uid: UInt32, gid: UInt32) throws(SystemError) {
            try Session.makeDirectory(place, mode: 0o755)
            if let means = means.take() { try RootMount.mount(means, nil, on: place, uid: uid, gid: gid) }
        }

        /// Forgets this process's copies of the descriptors.
        func giveAway() { _ = means.take() }
    }

    private(set) var overlays: [Part] = []
    private(set) var data: [Part] = []
    /// Views of the data images, to tell files from directories; nil for ext images.
    private var views: [RootView?] = []

    init(_ plan: LaunchPlan, _ mounting: ImageMounting) throws {
        for overlay in plan.overlays {
            do { overlays.append(try Self.overlay(overlay, mounting)) } catch {
                // Who only runs an image need not wait for who changes it.
                guard overlay.isEmbedded && overlay.isReadOnly else { throw error }
                mounting.log.warning("\(overlay.name) is left out: \(error)")
                overlays.append(Part(.nothing, isReadOnly: true, nil))
            }
        }
        for image in plan.dataImages {
            let file = try ImageFile.openData(image.path, object: image.object, keys: mounting.keys)
            if case .ext(let place) = file.content {
                let isReadOnly = Self.isReadOnly(image.path, image.isReadOnly, image.path, mounting.log)
                data.append(Part(.ext, isReadOnly: isReadOnly, .tree(try mounting.ext.mount(place, isReadOnly: isReadOnly))))
                views.append(nil)
            } else {
                data.append(Part(.squashFS, isReadOnly: true, try mounting.means(of: file)))
                views.append(RootView(file))
            }
        }
    }

    func isDirectory(_ number: Int, _ path: String) -> Bool {
        guard let view = views[number] else { return true }
        return view.resolve(path)?.kind == .directory
    }

    private static func overlay(_ overlay: RunOptions.Overlay, _ mounting: ImageMounting) throws -> Part {
        let name = overlay.name
        guard let status = Files.status(overlay.path) else {
            throw RuntimeError.badOption(
                "\(name): there is no such file or directory; create a directory for it, or see `singularity overlay create`")
        }
        if status.st_mode & S_IFMT == S_IFDIR {
            return Part(.directory(overlay.path), isReadOnly: isReadOnly(overlay.path, overlay.isReadOnly, name, mounting.log), nil)
        }
        let file = try ImageFile.openPart(overlay.path, keys: mounting.keys) { sif in
            if let object = overlay.object { return try? sif.descriptor(id: object) }
            return sif.overlayPartitions.first ?? sif.primaryPartition
        }
        guard case .ext(let place) = file.content else {
            if !overlay.isReadOnly {
                throw RuntimeError.badOption("\(name) is a SquashFS image, which cannot be written; add :ro")
            }
            return Part(.squashFS, isReadOnly: true, try mounting.means(of: file))
        }
        let isReadOnly = isReadOnly(overlay.path, overlay.isReadOnly, name, mounting.log)
        let tree = try mounting.ext.mount(place, isReadOnly: isReadOnly)
        return Part(.ext, isReadOnly: isReadOnly, .tree(tree))
    }

    /// Who may not write to an overlay or a data container can still read it.
    private static func isReadOnly(_ path: String, _ isWanted: Bool, _ name: String, _ log: Log) -> Bool {
        if isWanted { return true }
        if access(path, W_OK) == 0 { return false }
        log.warning("\(name) cannot be written by this user: it is used read-only")
        return true
    }

    /// Copies directories, in the new mount namespace.
    func prepare() throws(SystemError) { for part in overlays { try part.prepare() } }

    /// Mounts all in the session, which is the working directory.
    func mount(uid: UInt32, gid: UInt32) throws(SystemError) {
        for (index, part) in overlays.enumerated() { try part.mount(on: Session.overlay(index), uid: uid, gid: gid) }
        for (index, part) in data.enumerated() { try part.mount(on: Session.data(index), uid: uid, gid: gid) }
    }

    func giveAway() { for part in overlays + data { part.giveAway() } }

    /// The layers of a root, the topmost first.
    /// - Returns: nil for the upper directories where the overlay that should be written cannot be.
    func layers(_ session: Session, _ plan: LaunchPlan) throws(SystemError) -> Session.Layers {
        var layers = Session.Layers(lowers: [Session.layer, Session.image])
        for (index, part) in overlays.enumerated() {
            if part.kind == .nothing { continue }
            let place = Session.overlay(index)
            if plan.rootLayer == .overlay(index) && !part.isReadOnly {
                // A link in an overlay that somebody else has made must lead nowhere.
                for name in ["upper", "work"] { try Self.makeOwnDirectory(place, name) }
                layers.upper = (place + "/upper", place + "/work")
                continue
            }
            let hasUpper =
                part.mayHaveChanges
                && Files.status(place + "/upper", followLinks: false).map { $0.st_mode & S_IFMT == S_IFDIR } ?? false
            layers.lowers.insert(hasUpper ? place + "/upper" : place, at: 0)
        }
        if plan.rootLayer == .writableTmpfs { layers.upper = try session.memoryUpper() }
        return layers
    }

    /// Whether an overlay is in an ext file system, which has no access control lists here.
    var hasExt: Bool { overlays.contains { $0.kind == .ext } }

    private static func makeOwnDirectory(_ place: String, _ name: String) throws(SystemError) {
        let path = "\(place)/\(name)"
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw .last("mkdir \(name) in the overlay") }
        guard let status = Files.status(path, followLinks: false), status.st_mode & S_IFMT == S_IFDIR else {
            throw SystemError("use \(name) in the overlay as a directory", errno: ENOTDIR)
        }
    }
}
