import SquashFS

/// Finds things in a tree. Links are followed inside the tree only.
public enum TreePath {
    private static let mostLinks = 40

    /// The object that a path leads to, nil where there is none.
    /// - Parameter followLast: a link as the last name is followed too.
    public static func find(_ path: String, in root: Node, followLast: Bool = true) -> Node? {
        resolve(path, in: root, followLast: followLast).node
    }

    /// Where a path leads.
    public struct Place {
        /// Directories from the root on, as far as they exist, with their names; links are resolved.
        public var directories: [(name: String, node: Node)]
        /// The object itself, nil where it is not there or a part of the path is missing.
        public var node: Node?
        /// Names of the path that do not exist, the last one included; empty where `node` is there.
        public var missing: [String]
        /// Name of the object in the last of `directories`.
        public var name: String
        /// A part of the path is there and is not a directory.
        public var isBlocked: Bool

        /// Path of the object from the root on, without links.
        public var path: [String] { directories.dropFirst().map(\.name) + (missing.isEmpty ? (name.isEmpty ? [] : [name]) : missing) }
    }

    public static func resolve(_ path: String, in root: Node, followLast: Bool = true) -> Place {
        var directories: [(name: String, node: Node)] = [("", root)]
        var pending = Array(path.split(separator: "/").map(String.init).reversed())
        var links = 0
        while let part = pending.popLast() {
            if part == "." { continue }
            if part == ".." {
                if directories.count > 1 { directories.removeLast() }
                continue
            }
            guard let directory = directories[directories.count - 1].node.directory, let next = directory[part] else {
                return Place(
                    directories: directories, node: nil, missing: [part] + pending.reversed(), name: pending.first ?? part, isBlocked: false
                )
            }
            let isLast = pending.isEmpty
            if case .symlink(let target) = next.content, !isLast || followLast {
                links += 1
                guard links < mostLinks else {
                    return Place(directories: directories, node: nil, missing: [part] + pending.reversed(), name: part, isBlocked: true)
                }
                if target.first == UInt8(ascii: "/") { directories = [("", root)] }
                pending += target.split(separator: UInt8(ascii: "/")).reversed().map { String(decoding: $0, as: UTF8.self) }
                continue
            }
            if isLast && !next.isDirectory {
                return Place(directories: directories, node: next, missing: [], name: part, isBlocked: false)
            }
            guard next.isDirectory else {
                return Place(directories: directories, node: nil, missing: [part] + pending.reversed(), name: part, isBlocked: true)
            }
            directories.append((part, next))
        }
        let last = directories[directories.count - 1]
        return Place(directories: Array(directories.dropLast()), node: last.node, missing: [], name: last.name, isBlocked: false)
    }

    /// The bytes of a small file, nil where there is none.
    /// - Parameter limit: larger files count as not there.
    public static func read(_ path: String, in root: Node, limit: UInt64 = 16 << 20) throws -> [UInt8]? {
        guard let node = find(path, in: root), case .file(let content) = node.content else { return nil }
        return try content.bytes(limit: limit)
    }
}

extension FileContent {
    /// All bytes of a small file; nil for one that is larger, or whose bytes are in the image under construction.
    public func bytes(limit: UInt64) throws -> [UInt8]? {
        switch self {
        case .empty: return []
        case .bytes(let bytes): return bytes
        case .stored: return nil
        case .image(let image, let layout):
            guard layout.size <= limit else { return nil }
            var out = [UInt8](repeating: 0, count: Int(layout.size))
            let count = try out.withUnsafeMutableBytes { try image.read(layout, at: 0, into: $0) }
            return Array(out.prefix(count))
        case .host(let file):
            guard file.size <= limit else { return nil }
            return try file.bytes(limit: Int(limit))
        case .foreign(let file):
            guard file.size <= limit else { return nil }
            let stream = try file.open()
            var out = [UInt8](repeating: 0, count: Int(file.size))
            let count = try out.withUnsafeMutableBytes { try stream.fill($0) }
            return Array(out.prefix(count))
        }
    }
}
