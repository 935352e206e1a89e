import SquashFS

/// Changes to a tree in the form that overlayfs keeps them: a character device 0:0 deletes a name, an attribute makes a
/// directory hide what is below it (kernel documentation, filesystems/overlayfs).
public enum LayerTree {
    /// In a user namespace, and here always, overlayfs uses attributes of this kind.
    static let attributePrefix = "user.overlay."
    static let opaque = "user.overlay.opaque"

    /// A deleted name.
    public static func whiteout() -> Node { Node(.characterDevice(0), Attributes(mode: 0)) }

    static func isWhiteout(_ node: Node) -> Bool {
        if case .characterDevice(0) = node.content { return true }
        return false
    }

    static func isOpaque(_ node: Node) -> Bool { isOpaque(node.attributes.xattrs) }

    /// Whether a directory with these attributes hides what lies below it.
    public static func isOpaque(_ xattrs: [Xattr]) -> Bool { xattrs.contains { $0.name == opaque } }

    /// Makes a directory hide what lies below it.
    public static func makeOpaque(_ node: Node) {
        if !isOpaque(node) { node.attributes.xattrs.append(Xattr(name: opaque, value: [UInt8(ascii: "y")])) }
    }

    /// Puts overlayfs's own form in the place of the files by which fuse-overlayfs marks deletions (`.wh.NAME`, as AUFS did).
    public static func replaceMarkers(in root: Node) {
        let prefix = Array(".wh.".utf8)
        let opaqueNames = [".wh..opq", ".wh..wh..opq"].map { Array($0.utf8) }
        var pending = [root]
        while let node = pending.popLast() {
            // With root it uses the attributes of the kernel's overlay without user namespaces.
            let isMarked = node.attributes.xattrs.contains {
                $0.name == "user.fuseoverlayfs.opaque" || $0.name == "trusted.overlay.opaque"
            }
            node.attributes.xattrs.removeAll { $0.name.hasPrefix("user.fuseoverlayfs.") || $0.name.hasPrefix("trusted.overlay.") }
            guard let directory = node.directory else { continue }
            if isMarked || opaqueNames.contains(where: { directory.children[$0] != nil }) { makeOpaque(node) }
            for (name, child) in directory.children {
                if name.starts(with: prefix) {
                    directory.children[name] = nil
                    let hidden = Array(name.dropFirst(prefix.count))
                    if !opaqueNames.contains(name), directory.children[hidden] == nil { directory.children[hidden] = whiteout() }
                } else {
                    pending.append(child)
                }
            }
        }
    }

    /// Lays changes over a tree. Nodes of both are used for the result.
    /// - Returns: the root of the result.
    public static func apply(_ changes: Node, to base: Node) -> Node {
        guard let added = changes.directory, let old = base.directory, !isOpaque(changes) else { return cleaned(changes) }
        var pending = [(added, old)]
        base.attributes = plain(changes.attributes)
        while let (changes, tree) = pending.popLast() {
            for (name, node) in changes.children {
                if isWhiteout(node) {
                    tree.children[name] = nil
                } else if let inner = node.directory, !isOpaque(node), let there = tree.children[name], let below = there.directory {
                    // The lower directory object may be shared with nobody, as directories have one name.
                    there.attributes = plain(node.attributes)
                    pending.append((inner, below))
                } else {
                    tree.children[name] = cleaned(node)
                }
            }
        }
        return base
    }

    /// A subtree that hides all below it, without deletions and overlayfs's own attributes.
    private static func cleaned(_ node: Node) -> Node {
        var pending = [node]
        while let node = pending.popLast() {
            node.attributes = plain(node.attributes)
            guard let directory = node.directory else { continue }
            for (name, child) in directory.children {
                if isWhiteout(child) { directory.children[name] = nil } else { pending.append(child) }
            }
        }
        return node
    }

    private static func plain(_ attributes: Attributes) -> Attributes {
        guard attributes.xattrs.contains(where: { $0.name.hasPrefix(attributePrefix) }) else { return attributes }
        var attributes = attributes
        attributes.xattrs.removeAll { $0.name.hasPrefix(attributePrefix) }
        return attributes
    }
}
