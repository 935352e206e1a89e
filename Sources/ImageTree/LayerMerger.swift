import Archive
import BlockIO
import SquashFS

/// Takes the content of a file out of a stream that passes by only once.
public typealias ContentStore = (_ content: any ByteStream, _ size: UInt64) throws -> FileContent

/// Merges the layers of a container image into one tree without unpacking them (OCI image specification, layers).
///
/// The newest layer comes first. What it has, or has deleted, hides the same path in all older layers, so the content of
/// each file that counts is stored once and no other file's content is looked at. The result is the tree that
/// unpacking the layers from the oldest to the newest would have made.
public final class LayerMerger {
    /// The content of files.
    private let store: ContentStore
    private let root = MergeNode()
    /// Number of the layer that is being read: the oldest is 0.
    private var layer = 0
    private var layerName = ""
    /// Regular files of this layer that newer layers hide: a hard link of this layer may still need one.
    private var hidden: Set<[UInt8]> = []
    /// Hard links whose target is such a file, by the target's path.
    private var wantedHidden: [[UInt8]: Node] = [:]
    /// Hard links whose target must be in an older layer, by the target's path.
    private var wantedOlder: [[UInt8]: WantedFile] = [:]

    private struct WantedFile {
        let node: Node
        let layerName: String
        let path: String
    }

    /// Files larger than this have their list of blocks take too much memory: only a lie about a sparse file is so large.
    static let largestFile: Int64 = 1 << 44

    public init(store: @escaping ContentStore) {
        self.store = store
        // Many archives have no entry for the root directory itself.
        root.isParent = true
    }

    /// Adds the next older layer.
    /// - Parameters:
    ///   - number: 0 is the oldest layer. Each call has a smaller number than the one before.
    ///   - open: starts to read the layer's plain tar; called a second time in rare cases.
    public func add(layer number: Int, name: String, open: () throws -> any ByteStream) throws {
        layer = number
        layerName = name
        hidden = []
        wantedHidden = [:]
        let olderWanted = wantedOlder
        let reader = try TarReader(try open(), name: name)
        while let entry = try reader.next() { try add(entry, from: reader, wanted: olderWanted) }
        if !wantedHidden.isEmpty { try fetchHidden(from: try TarReader(try open(), name: name)) }
    }

    /// The merged tree.
    /// - Throws: ``TreeError/danglingHardLink(layer:path:target:)``
    public func finish() throws(TreeError) -> Node {
        if let (target, wanted) = wantedOlder.first {
            throw .danglingHardLink(
                layer: wanted.layerName, path: wanted.path, target: String(decoding: target, as: UTF8.self))
        }
        return root.finished() ?? Node.directory()
    }

    // MARK: One entry

    private func add(_ entry: TarEntry, from reader: TarReader, wanted: [[UInt8]: WantedFile]) throws {
        let path = try EntryPath(entry.path, layer: layerName)
        guard let name = path.components.last else {
            if entry.kind == .directory { take(entry, at: root) }
            return
        }
        if let whiteout = Whiteout(name) {
            try apply(whiteout, in: path)
            return
        }
        try check(entry, path)
        let place = walk(path.components.dropLast())
        let key = Array(path.components.joined(separator: [UInt8(ascii: "/")]))
        if case .hardLink(let target) = entry.kind {
            try addHardLink(to: target, at: place, named: name, path: path)
            return
        }
        let visible = place.flatMap { $0.child(name, visibleTo: layer) }
        let older = entry.kind == .file ? wanted[key] : nil
        if let node = visible, case .symlink(let target) = entry.kind, node.isOnlyParent {
            graft(node, onto: target, entry)
            return
        }
        guard let node = visible, accept(entry.kind, at: node) else {
            if let older {
                try fill(older.node, from: entry, reader)
                wantedOlder[key] = nil
            } else if entry.kind == .file {
                hidden.insert(key)
            }
            return
        }
        if let older {
            try fill(older.node, from: entry, reader)
            wantedOlder[key] = nil
            node.decide(older.node, layer: layer)
        } else if entry.kind == .file {
            node.decide(Node(.file(try content(entry, reader)), attributes(entry)), layer: layer)
        } else {
            take(entry, at: node)
        }
    }

    private func check(_ entry: TarEntry, _ path: EntryPath) throws(TreeError) {
        switch entry.kind {
        case .file where entry.size < 0 || entry.size > Self.largestFile:
            throw .tooLarge(layer: layerName, path: path.text, why: "says that it has \(entry.size) bytes")
        case .symlink(let target) where target.isEmpty || target.count > 4096:
            throw .badEntry(layer: layerName, path: path.text, why: "is a link of \(target.count) bytes")
        case .blockDevice(let number), .characterDevice(let number):
            if Device.encoded(number) == nil {
                throw .badEntry(layer: layerName, path: path.text, why: "is a device with the impossible number \(number)")
            }
        default: break
        }
    }

    /// Whether an entry counts at a node that no newer layer hides from it; what it hides itself is noted.
    private func accept(_ kind: TarEntry.Kind, at node: MergeNode) -> Bool {
        if node.isDecided && node.layer > layer {
            // Only directories are merged; anything else ends what older layers have below this name.
            if kind != .directory || !node.isDirectory { node.hide(before: layer) }
            return false
        }
        if node.isOnlyParent && kind != .directory {
            // Newer layers wrote below this name: they made it a directory.
            node.hide(before: layer)
            return false
        }
        return true
    }

    /// A newer layer wrote below a name that turns out to be a link: its files belong where the link leads.
    private func graft(_ node: MergeNode, onto target: [UInt8], _ entry: TarEntry) {
        let moved = node.removeChildren(newerThan: layer)
        take(entry, at: node)
        guard !moved.isEmpty, let place = follow(target, from: node, depth: 0, seeingAll: true) else { return }
        for (name, child) in moved { place.merge(child, named: name) }
    }

    private func take(_ entry: TarEntry, at node: MergeNode) {
        let content: Node.Content
        switch entry.kind {
        case .directory:
            if node.isDecided && node.layer > layer { return }
            content = .directory(Directory())
        case .symlink(let target): content = .symlink(target)
        case .blockDevice(let number): content = .blockDevice(Device.encoded(number) ?? 0)
        case .characterDevice(let number): content = .characterDevice(Device.encoded(number) ?? 0)
        case .fifo: content = .fifo
        case .socket: content = .socket
        case .file, .hardLink: return
        }
        node.decide(Node(content, attributes(entry)), layer: layer)
    }

    private func attributes(_ entry: TarEntry) -> Attributes {
        Attributes(
            mode: entry.mode, uid: UInt32(truncatingIfNeeded: entry.uid), gid: UInt32(truncatingIfNeeded: entry.gid),
            modificationTime: entry.modificationTime,
            xattrs: entry.xattrs.filter { Self.isKept($0.name) }.map { Xattr(name: $0.name, value: $0.value) })
    }

    /// Labels of the machine where the layer was made mean nothing on another.
    private static func isKept(_ name: String) -> Bool {
        name != "security.selinux" && name != "user.rootlesscontainers" && !name.hasPrefix("security.nfs")
            && Xattr.canStore(name)
    }

    private func content(_ entry: TarEntry, _ reader: TarReader) throws -> FileContent {
        if entry.size == 0 { return .empty }
        return try store(reader.content(size: entry.size, path: entry.path), UInt64(entry.size))
    }

    private func fill(_ node: Node, from entry: TarEntry, _ reader: TarReader) throws {
        node.content = .file(try content(entry, reader))
        node.attributes = attributes(entry)
    }

    // MARK: Whiteouts

    private func apply(_ whiteout: Whiteout, in path: EntryPath) throws(TreeError) {
        switch whiteout {
        case .opaque: walk(path.components.dropLast())?.hideChildren(before: layer)
        case .name(let name):
            guard name != [UInt8(ascii: ".")], name != [UInt8(ascii: "."), UInt8(ascii: ".")], !name.isEmpty else {
                throw .badEntry(layer: layerName, path: path.text, why: "deletes a name that cannot be")
            }
            walk(path.components.dropLast())?.child(name, visibleTo: layer)?.hide(before: layer)
        case .other: break
        }
    }

    // MARK: Hard links

    private func addHardLink(to target: [UInt8], at place: MergeNode?, named name: [UInt8], path: EntryPath) throws {
        let targetPath = try EntryPath(Self.relative(target), layer: layerName)
        let key = Array(targetPath.components.joined(separator: [UInt8(ascii: "/")]))
        guard let node = place?.child(name, visibleTo: layer) else {
            hidden.insert(Array(path.components.joined(separator: [UInt8(ascii: "/")])))
            return
        }
        guard accept(.file, at: node) else { return }
        node.decide(shared(key, targetPath, path), layer: layer)
    }

    /// Old archivers write link targets as absolute names; they still mean the archive's own root.
    private static func relative(_ target: [UInt8]) -> [UInt8] { Array(target.drop { $0 == UInt8(ascii: "/") }) }

    /// The file that a hard link of this layer names.
    private func shared(_ key: [UInt8], _ target: EntryPath, _ path: EntryPath) -> Node {
        if let name = target.components.last,
            let found = walk(target.components.dropLast())?.children[name], found.isDecided, found.layer == layer,
            let node = found.node, !node.isDirectory
        {
            return node
        }
        if let node = wantedHidden[key] ?? wantedOlder[key]?.node { return node }
        let node = Node(.file(.empty), Attributes(mode: 0o644))
        if hidden.contains(key) {
            wantedHidden[key] = node
        } else {
            wantedOlder[key] = WantedFile(node: node, layerName: layerName, path: path.text)
        }
        return node
    }

    /// Reads the layer once more for the files that newer layers hide but a hard link of this layer still shows.
    private func fetchHidden(from reader: TarReader) throws {
        var aliases: [[UInt8]: [UInt8]] = [:]
        while let entry = try reader.next(), !wantedHidden.isEmpty {
            let path = try EntryPath(entry.path, layer: layerName)
            let key = Array(path.components.joined(separator: [UInt8(ascii: "/")]))
            switch entry.kind {
            case .file:
                guard let node = wantedHidden.removeValue(forKey: key) else { continue }
                try fill(node, from: entry, reader)
            case .hardLink(let target): aliases[key] = Self.relative(target)
            default: continue
            }
        }
        // A hidden hard link can itself have been the target; what it names is in this layer or an older one.
        for (key, node) in wantedHidden {
            wantedOlder[aliases[key] ?? key] = WantedFile(
                node: node, layerName: layerName, path: String(decoding: key, as: UTF8.self))
        }
        wantedHidden = [:]
    }

    // MARK: Paths

    /// The node of a directory, made where it is missing; nil where newer layers hide it from this one.
    /// - Parameter seeingAll: look with the newest layer's eyes: nothing is hidden.
    private func walk(_ components: some Collection<[UInt8]>, depth: Int = 0, seeingAll: Bool = false) -> MergeNode? {
        var node = root
        for name in components {
            guard let next = node.child(name, visibleTo: seeingAll ? .max : layer) else { return nil }
            if next.isDecided, case .symlink(let target)? = next.node?.content {
                // A link of a newer layer replaced what this layer has below the name.
                guard seeingAll || next.layer == layer,
                    let end = follow(target, from: next, depth: depth + 1, seeingAll: seeingAll)
                else { return nil }
                node = end
                continue
            }
            if next.isDecided && !next.isDirectory { return nil }
            next.isParent = true
            node = next
        }
        return node
    }

    /// The directory that a link leads to, inside the tree.
    private func follow(_ target: [UInt8], from link: MergeNode, depth: Int, seeingAll: Bool) -> MergeNode? {
        guard depth < 40 else { return nil }
        var components = target.first == UInt8(ascii: "/") ? [] : link.parent?.path ?? []
        for part in target.split(separator: UInt8(ascii: "/")) where !part.elementsEqual([UInt8(ascii: ".")]) {
            if part.elementsEqual([UInt8(ascii: "."), UInt8(ascii: ".")]) {
                if !components.isEmpty { components.removeLast() }
            } else {
                components.append([UInt8](part))
            }
        }
        return walk(components, depth: depth, seeingAll: seeingAll)
    }
}

/// A marker file of a layer (OCI image specification, whiteouts).
enum Whiteout {
    /// Everything that older layers have in the directory is gone.
    case opaque
    /// What older layers have under a name is gone.
    case name([UInt8])
    /// A leftover of AUFS without meaning.
    case other

    init?(_ name: [UInt8]) {
        let prefix = Array(".wh.".utf8)
        guard name.starts(with: prefix) else { return nil }
        if name == Array(".wh..wh..opq".utf8) {
            self = .opaque
        } else if name.starts(with: Array(".wh..wh.".utf8)) {
            self = .other
        } else {
            self = .name(Array(name.dropFirst(prefix.count)))
        }
    }
}
