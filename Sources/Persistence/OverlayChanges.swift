import BlockIO
import Build
import Encryption
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
    /// How the image is encrypted; nil for a plain one.
    let encryption: ImageEncryption?
    private let identity = BuildIdentity.available()
    /// Whose the files of a container without root are.
    private let caller: (uid: UInt32, gid: UInt32)?

    /// - Parameters:
    ///   - overlay: nil for the image's own partition.
    ///   - keys: for what is encrypted.
    public init(of image: String, in overlay: String?, keys: ImageKeys, _ what: String) throws {
        guard let path = Files.resolved(image) else { throw PersistenceError.refused("\(image): \(SystemError.last("open").reason)") }
        self.image = path
        let opened = try ImageFile.open(path, workingDirectory: nil, keys: keys)
        guard case .squashFS(let base, _, _, _) = opened.content, opened.container == .sif else {
            throw PersistenceError.refused(
                "\(image) is no SIF: only the changes of a SIF can be committed; `singularity build` makes one of anything")
        }
        self.base = base
        encryption = try opened.sif.flatMap { try Self.encryption($0, keys) }
        if let overlay, Files.isDirectory(overlay) {
            self.overlay = Files.resolved(overlay) ?? overlay
            place = .directory
            // In the user namespace of the build the caller is root.
            caller = identity == .root ? nil : (0, 0)
            return
        }
        let writable = try WritableImage(overlay ?? path, keys: keys)
        guard writable.kind != .data else { throw PersistenceError.refused("\(overlay ?? image) is a data container, and no overlay") }
        self.overlay = writable.path
        place = .partition(try writable.hold(forWriting: true, what))
        caller = identity == .root ? nil : (getuid(), getgid())
    }

    private static func encryption(_ sif: ImageFile.OpenedSIF, _ keys: ImageKeys) throws -> ImageEncryption? {
        guard let primary = sif.file.primaryPartition, primary.partition?.fileSystem.isEncrypted ?? false else { return nil }
        let (passphrase, messages) = try EncryptedPartition.keys(of: primary, of: sif.file, sif.source, try keys.load())
        return ImageEncryption(passphrase: passphrase, messages: messages)
    }

    /// Whether they are in the image itself.
    public var isEmbedded: Bool { if case .partition = place { overlay == image } else { false } }

    /// The changes in overlayfs's own form. For a directory of an ordinary user, in a user namespace of the build.
    func tree() throws -> Node {
        let changes: Node
        switch place {
        case .directory:
            let upper = Files.isDirectory(overlay + "/upper") ? overlay + "/upper" : overlay
            changes = try HostTree.read(upper, ownership: identity == .root ? .asStored : .mapped)
        case .partition(let held):
            changes = try ExtTree.read(held.image.place.open(), held.image.path, folder: "upper")
        }
        LayerTree.replaceMarkers(in: changes)
        return changes
    }

    /// Lets files of subordinate ids be read; nothing for root, and where they are in a partition. Only for a process with one
    /// thread, and before anything of this value is read.
    public func enter() throws { if case .directory = place { try identity.enter() } }

    /// The image with its changes.
    ///
    /// Files of an ordinary user's container are all the caller's, whoever they belong to in the image: what was changed keeps
    /// its owner, and what is new is root's, as everything is that a build makes.
    func merged() throws -> Node {
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
    public func list(ignoresTimes: Bool) throws -> [TreeDiff.Change] { try list(merged(), ignoresTimes: ignoresTimes) }

    /// - Parameter merged: the image with its changes.
    func list(_ merged: Node, ignoresTimes: Bool) throws -> [TreeDiff.Change] {
        try TreeDiff.changes(from: SquashFSTree.read(base), to: merged, ignoresTimes: ignoresTimes)
    }
}
