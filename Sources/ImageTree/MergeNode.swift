/// A path while layers are merged: what the newest layer has there, and what that hides.
final class MergeNode {
    private(set) weak var parent: MergeNode?
    private(set) var name: [UInt8] = []
    private(set) var children: [[UInt8]: MergeNode] = [:]
    /// The object, where a layer has an entry for the path.
    private(set) var node: Node?
    /// The layer that ``node`` is from.
    private(set) var layer = -1
    /// A layer has something below this path.
    var isParent = false
    /// Older layers than this one do not count at this path and below it.
    private var hidesBefore = -1
    /// Older layers than this one do not count below this path.
    private var hidesChildrenBefore = -1

    var isDecided: Bool { node != nil }
    /// Something stands below this path, but no layer read so far says what the path itself is.
    var isOnlyParent: Bool { node == nil && isParent }
    var isDirectory: Bool { node?.isDirectory ?? false }

    /// Names from the root.
    var path: [[UInt8]] { (parent?.path ?? []) + (parent == nil ? [] : [name]) }

    /// The node under a name, made where there is none; nil where it is hidden from the layer.
    func child(_ name: [UInt8], visibleTo layer: Int) -> MergeNode? {
        guard layer >= hidesChildrenBefore else { return nil }
        if let child = children[name] { return layer >= child.hidesBefore ? child : nil }
        let child = MergeNode()
        child.parent = self
        child.name = name
        children[name] = child
        return child
    }

    func hide(before layer: Int) { hidesBefore = max(hidesBefore, layer) }
    func hideChildren(before layer: Int) { hidesChildrenBefore = max(hidesChildrenBefore, layer) }

    /// Puts an object at this path, in the place of one that the same layer had before.
    func decide(_ node: Node, layer: Int) {
        if !node.isDirectory {
            children = [:]
            hide(before: layer)
        }
        self.node = node
        self.layer = layer
    }

    /// Takes out what newer layers put below this path; the rest is dropped.
    func removeChildren(newerThan layer: Int) -> [(name: [UInt8], node: MergeNode)] {
        let moved = children.filter { $0.value.newest > layer }.map { (name: $0.key, node: $0.value) }
        children = [:]
        isParent = false
        return moved
    }

    /// The newest layer that has something at this path or below it, or hides something.
    private var newest: Int { children.values.reduce(max(layer, hidesBefore, hidesChildrenBefore)) { max($0, $1.newest) } }

    /// Merges a node that stood at another path into the children: of two objects the newer layer's counts.
    func merge(_ other: MergeNode, named name: [UInt8]) {
        isParent = true
        guard let mine = children[name] else {
            other.parent = self
            other.name = name
            children[name] = other
            return
        }
        mine.hidesBefore = max(mine.hidesBefore, other.hidesBefore)
        mine.hidesChildrenBefore = max(mine.hidesChildrenBefore, other.hidesChildrenBefore)
        mine.isParent = mine.isParent || other.isParent
        if other.isDecided && (!mine.isDecided || other.layer > mine.layer) {
            mine.node = other.node
            mine.layer = other.layer
        }
        if mine.isDecided && !mine.isDirectory {
            mine.children = [:]
            return
        }
        for (name, child) in other.children { mine.merge(child, named: name) }
    }

    /// The tree below this path, nil where no layer has anything here.
    func finished() -> Node? {
        if let node, !node.isDirectory { return node }
        var directory: [[UInt8]: Node] = [:]
        for (name, child) in children {
            if let node = child.finished() { directory[name] = node }
        }
        guard node != nil || (isParent && !directory.isEmpty) else { return nil }
        // A directory that is only the way to something: as mkdir would make it.
        let result = node ?? Node.directory()
        result.directory?.children = directory
        return result
    }
}
