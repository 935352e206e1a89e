import Build
import BlockIO
import Glibc
import ImageTree
import Linux
import Runtime
import SIF
import SquashFS

/// Changes of an image that are kept in an overlay: its own partition, a directory, or an image file beside it.
public final class OverlayChanges {
    /// The image that they are of.
    public let image: String
    /// Where they are.
    public let overlay: String
    enum Place {
        case directory
        /// Nobody may change it meanwhile.
        case partition(HeldImage)
    }
    let place: Place
    let base: SquashFSImage

    /// - Parameter overlay: nil for the image's own partition.
    public init(of image: String, in overlay: String?, _ what: String) throws {
        guard let path = Files.resolved(image) else { throw PersistenceError.refused("\(image): \(SystemError.last("open").reason)") }
        self.image = path
        let opened = try ImageFile.open(path, workingDirectory: nil)
        guard case .squashFS(let base, _, _, _) = opened.content, opened.container == .sif else {
            throw PersistenceError.refused(
                "\(image) is no SIF: only the changes of a SIF can be committed; `singularity build` makes one of anything")
        }
        self.base = base
        if let overlay, Files.isDirectory(overlay) {
            self.overlay = Files.resolved(overlay) ?? overlay
            place = .directory
            return
        }
        let writable = try WritableImage(overlay ?? path)
        guard writable.kind != .data else { throw PersistenceError.refused("\(overlay ?? image) is a data container, and no overlay") }
        self.overlay = writable.path
        let held = try writable.hold(forWriting: true, what)
        try ExtCheck.afterCrash(writable.place, file: held.file.rawValue, isReadOnly: false)
        place = .partition(held)
    }

    /// Whether they are in the image itself.
    public var isEmbedded: Bool { if case .partition = place { overlay == image } else { false } }

    /// The changes in overlayfs's own form. For a directory of an ordinary user, in a user namespace of the build.
    func tree() throws -> Node {
        let changes: Node
        switch place {
        case .directory:
            let upper = Files.isDirectory(overlay + "/upper") ? overlay + "/upper" : overlay
            changes = try HostTree.read(upper, ownership: getuid() == 0 && !isUserNamespace ? .asStored : .mapped)
        case .partition(let held):
            changes = try ExtTree.read(held.image.path, offset: held.image.place.offset, folder: "upper")
        }
        LayerTree.replaceMarkers(in: changes)
        return changes
    }

    private var isUserNamespace: Bool {
        guard let map = try? Files.readText("/proc/self/uid_map") else { return false }
        return map.split(separator: " ").last.map { $0.hasPrefix("4294967295") } != true
    }

    /// The image with its changes.
    ///
    /// Files of an ordinary user's container are all the caller's, whoever they belong to in the image: what was changed keeps
    /// its owner, and what is new is root's, as everything is that a build makes.
    /// - Parameter caller: whose files those are; nil where owners are as they stand.
    func merged(caller: (uid: UInt32, gid: UInt32)?) throws -> Node {
        let root = try SquashFSTree.read(base)
        let changes = try tree()
        if let caller { Self.restoreOwners(changes, over: root, caller) }
        return LayerTree.apply(changes, to: root)
    }

    private static func restoreOwners(_ changes: Node, over base: Node, _ caller: (uid: UInt32, gid: UInt32)) {
        var seen: Set<ObjectIdentifier> = []
        var pending: [(Node, Node?)] = [(changes, base)]
        while let (node, old) = pending.popLast() {
            if seen.insert(ObjectIdentifier(node)).inserted {
                if node.attributes.uid == caller.uid { node.attributes.uid = old?.attributes.uid ?? 0 }
                if node.attributes.gid == caller.gid { node.attributes.gid = old?.attributes.gid ?? 0 }
            }
            guard let directory = node.directory else { continue }
            let below = LayerTree.isOpaque(node.attributes.xattrs) ? nil : old?.directory
            for (name, child) in directory.children { pending.append((child, below?.children[name])) }
        }
    }

    /// What a commit would take.
    /// - Parameter ignoresTimes: modification times do not count.
    public func list(ignoresTimes: Bool) throws -> [TreeDiff.Change] {
        try TreeDiff.changes(from: SquashFSTree.read(base), to: merged(caller: caller), ignoresTimes: ignoresTimes)
    }

    /// Whose files count as the image's own.
    var caller: (uid: UInt32, gid: UInt32)? {
        if getuid() == 0 && !isUserNamespace { return nil }
        if case .directory = place { return (0, 0) }
        return (getuid(), getgid())
    }
}
