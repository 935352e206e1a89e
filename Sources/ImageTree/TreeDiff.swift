import BlockIO
import Glibc
import SquashFS

/// What differs between two trees.
public enum TreeDiff {
    public struct Change: Sendable, Equatable {
        public enum Kind: String, Sendable {
            case added, removed, changed
        }

        public var kind: Kind
        /// From the root on, with a slash before it.
        public var path: String
        /// What differs in an object that both have, in words: `mode 644 -> 755`.
        public var details: [String]
    }

    /// - Parameter ignoresTimes: modification times do not count.
    /// - Returns: in the order of the paths' bytes, parents before what is in them.
    public static func changes(from old: Node, to new: Node, ignoresTimes: Bool) throws -> [Change] {
        var out: [Change] = []
        var pending: [(path: String, old: Node, new: Node)] = [("", old, new)]
        while let (path, old, new) = pending.popLast() {
            let details = try differences(old, new, ignoresTimes)
            if !details.isEmpty { out.append(Change(kind: .changed, path: path.isEmpty ? "/" : path, details: details)) }
            guard let left = old.directory, let right = new.directory else { continue }
            let names = Set(left.children.keys).union(right.children.keys).sorted { $0.lexicographicallyPrecedes($1) }
            var inner: [(path: String, old: Node, new: Node)] = []
            for name in names {
                let place = path + "/" + String(decoding: name, as: UTF8.self)
                switch (left.children[name], right.children[name]) {
                case (let before?, let after?): inner.append((place, before, after))
                case (let before?, nil): out += all(before, place, .removed)
                case (nil, let after?): out += all(after, place, .added)
                case (nil, nil): break
                }
            }
            pending += inner.reversed()
        }
        return out.sorted { Array($0.path.utf8).lexicographicallyPrecedes(Array($1.path.utf8)) }
    }

    private static func all(_ node: Node, _ path: String, _ kind: Change.Kind) -> [Change] {
        var out: [Change] = []
        var pending = [(node, path)]
        while let (node, path) = pending.popLast() {
            out.append(Change(kind: kind, path: path, details: []))
            for (name, child) in node.directory?.sorted ?? [] {
                pending.append((child, path + "/" + String(decoding: name, as: UTF8.self)))
            }
        }
        return out
    }

    private static func differences(_ old: Node, _ new: Node, _ ignoresTimes: Bool) throws -> [String] {
        var out: [String] = []
        let (before, after) = (old.attributes, new.attributes)
        if name(old) != name(new) { return ["type \(name(old)) -> \(name(new))"] }
        if before.mode != after.mode { out.append("mode \(String(before.mode, radix: 8)) -> \(String(after.mode, radix: 8))") }
        if before.uid != after.uid || before.gid != after.gid {
            out.append("owner \(before.uid):\(before.gid) -> \(after.uid):\(after.gid)")
        }
        if !ignoresTimes, before.modificationTime != after.modificationTime {
            out.append("time \(before.modificationTime) -> \(after.modificationTime)")
        }
        if Set(before.xattrs) != Set(after.xattrs) { out.append("attributes") }
        switch (old.content, new.content) {
        case (.file(let left), .file(let right)):
            if left.size != right.size {
                out.append("size \(left.size) -> \(right.size)")
            } else if try !areEqual(left, right) {
                out.append("content")
            }
        case (.symlink(let left), .symlink(let right)) where left != right:
            out.append("target \(String(decoding: left, as: UTF8.self)) -> \(String(decoding: right, as: UTF8.self))")
        case (.blockDevice(let left), .blockDevice(let right)) where left != right,
            (.characterDevice(let left), .characterDevice(let right)) where left != right:
            out.append("device")
        default: break
        }
        return out
    }

    private static func name(_ node: Node) -> String {
        switch node.content {
        case .directory: "directory"
        case .file: "file"
        case .symlink: "link"
        case .blockDevice: "block device"
        case .characterDevice: "character device"
        case .fifo: "pipe"
        case .socket: "socket"
        }
    }

    private static func areEqual(_ left: FileContent, _ right: FileContent) throws -> Bool {
        // The same place in the same image: nothing has to be read.
        if case .image(let image, let layout) = left, case .image(let other, let otherLayout) = right, image === other,
            layout.start == otherLayout.start, layout.size == otherLayout.size, layout.fragment == otherLayout.fragment,
            layout.fragmentOffset == otherLayout.fragmentOffset
        {
            return true
        }
        guard let first = try left.stream(), let second = try right.stream() else { return true }
        let size = 1 << 17
        let buffers = (
            UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64),
            UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        )
        defer {
            buffers.0.deallocate()
            buffers.1.deallocate()
        }
        while true {
            let counts = (try first.fill(buffers.0), try second.fill(buffers.1))
            guard counts.0 == counts.1 else { return false }
            if counts.0 == 0 { return true }
            guard let a = buffers.0.baseAddress, let b = buffers.1.baseAddress, memcmp(a, b, counts.0) == 0 else { return false }
        }
    }
}
