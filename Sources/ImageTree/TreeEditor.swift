/// Puts small files into a tree. Links of the tree are followed inside the tree only.
public struct TreeEditor {
    private let root: Node
    private let time: Int64

    /// - Parameter time: Unix seconds that new objects get.
    public init(_ root: Node, time: Int64) {
        self.root = root
        self.time = time
    }

    /// Makes a directory and those above it, unless there is something of the name.
    public func makeDirectory(_ path: String) {
        guard let (parent, name) = place(path), parent[name] == nil else { return }
        parent[name] = .directory(modificationTime: time)
    }

    /// Makes sure that a name in the root is a directory and nothing else.
    public func replaceWithDirectory(_ name: String) {
        if root.directory?[name]?.isDirectory == true { return }
        root.directory?[name] = .directory(modificationTime: time)
    }

    public func makeFileIfAbsent(_ path: String, mode: UInt16 = 0o644) {
        guard let (parent, name) = place(path), parent[name] == nil else { return }
        parent[name] = Node(.file(.empty), Attributes(mode: mode, modificationTime: time))
    }

    /// Writes a file over whatever has the name.
    public func write(_ path: String, _ text: String, mode: UInt16) { write(path, Array(text.utf8), mode: mode) }

    /// Writes a file over whatever has the name.
    public func write(_ path: String, _ bytes: [UInt8], mode: UInt16) {
        guard let (parent, name) = place(path) else { return }
        let content: FileContent = bytes.isEmpty ? .empty : .bytes(bytes)
        parent[name] = Node(.file(content), Attributes(mode: mode, modificationTime: time))
    }

    /// Makes a link, over another link but not over anything else.
    public func link(_ name: String, _ target: String) {
        guard let directory = root.directory else { return }
        if let there = directory[name] {
            guard case .symlink = there.content else { return }
        }
        directory[name] = Node(.symlink(Array(target.utf8)), Attributes(mode: 0o777, modificationTime: time))
    }

    /// The directory of a path, with its last name. Missing directories are made; nil where a file is in the way.
    private func place(_ path: String) -> (Directory, String)? {
        let parts = path.split(separator: "/").map(String.init)
        guard let name = parts.last else { return nil }
        var stack = [root]
        var pending = Array(parts.dropLast().reversed())
        var links = 0
        while let part = pending.popLast() {
            if part == "." { continue }
            if part == ".." {
                if stack.count > 1 { stack.removeLast() }
                continue
            }
            guard let directory = stack.last?.directory else { return nil }
            let next = directory[part] ?? .directory(modificationTime: time)
            directory[part] = next
            if case .symlink(let target) = next.content {
                links += 1
                guard links < 40 else { return nil }
                if target.first == UInt8(ascii: "/") { stack = [root] }
                pending += target.split(separator: UInt8(ascii: "/")).reversed().map { String(decoding: $0, as: UTF8.self) }
            } else {
                stack.append(next)
            }
        }
        return stack.last?.directory.map { ($0, name) }
    }
}
