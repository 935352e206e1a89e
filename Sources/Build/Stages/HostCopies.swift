import Crypto
import Definition
import Glibc
import ImageTree
import Linux

/// `%files` from the host: finds what is to be copied, and puts it into a tree.
///
/// As with `cp -fLr`, links are followed; the copies belong to root.
struct HostCopies {
    let section: Section
    /// Of the definition file, for messages.
    let file: String
    /// Before relative destinations: `/scif/apps/NAME` of an app, `/` otherwise.
    var destinationRoot = "/"

    /// One source and where it goes.
    struct Item {
        var source: String
        var destination: String
        var line: Int
    }

    /// The sources that the section's patterns find.
    func items() throws -> [Item] {
        var out: [Item] = []
        for copy in section.fileCopies {
            let found = try Self.expand(copy.source)
            guard !found.isEmpty else {
                throw BuildError.refused(
                    "\(file):\(copy.line): while copying \(copy.source): no such file or directory on the host (relative names start at \(Files.workingDirectory ?? "the working directory"))"
                )
            }
            for source in found {
                out.append(Item(source: source, destination: copy.destination.isEmpty ? source : copy.destination, line: copy.line))
            }
        }
        return out
    }

    /// Names that a pattern stands for: `*`, `?`, `[...]` and `{a,b}` as in a shell, and nothing that runs.
    private static func expand(_ pattern: String) throws -> [String] {
        if Files.status(pattern, followLinks: false) != nil { return [pattern] }
        var result = glob_t()
        defer { globfree(&result) }
        let braces: CInt = 1 << 10
        let status = glob(pattern, braces, nil, &result)
        guard status == 0 else {
            if status == GLOB_NOMATCH { return [] }
            throw BuildError.refused("while copying \(pattern): the pattern cannot be read")
        }
        return (0..<Int(result.gl_pathc)).compactMap { result.gl_pathv[$0].map { String(cString: $0) } }
    }

    /// What identifies the inputs: names, kinds, modes and contents.
    func fingerprint(of items: [Item], _ digests: FileDigests) throws -> [String] {
        var parts = [destinationRoot]
        for item in items {
            parts += [item.source.split(separator: "/").last.map(String.init) ?? "", item.destination]
            var pending = [item.source]
            while let path = pending.popLast() {
                guard let status = Files.status(path) else {
                    parts.append("broken \(path.dropFirst(item.source.count))")
                    continue
                }
                parts.append("\(path.dropFirst(item.source.count)) \(String(status.st_mode, radix: 8))")
                if status.st_mode & S_IFMT == S_IFDIR {
                    pending += try Files.entries(path).sorted(by: >).map { path + "/" + $0 }
                } else if status.st_mode & S_IFMT == S_IFREG {
                    parts.append(try digests.digest(of: path))
                }
            }
        }
        return parts
    }

    /// Adds the copies to a tree of changes.
    /// - Parameters:
    ///   - tree: what there is so far.
    func copy(_ items: [Item], into changes: ChangeTree) throws {
        for item in items {
            let node: Node
            do { node = try Self.read(item.source) } catch {
                throw BuildError.refused("\(file):\(item.line): while copying \(item.source): \(error)")
            }
            var destination = item.destination
            if !destination.hasPrefix("/") { destination = destinationRoot + (destinationRoot.hasSuffix("/") ? "" : "/") + destination }
            let name = item.source.split(separator: "/").last.map(String.init) ?? ""
            do { try changes.put(node, at: destination, name: name) } catch {
                throw BuildError.refused("\(file):\(item.line): while copying \(item.source) to \(item.destination): \(error)")
            }
        }
    }

    private static let deepest = 256

    /// A file or directory with all links in it followed.
    private static func read(_ path: String, depth: Int = 0) throws -> Node {
        guard depth < deepest else { throw BuildError.refused("\(path): directories are too deep, or a link leads in a circle") }
        guard let status = Files.status(path) else { throw SystemError.last("stat \(path)") }
        let attributes = Attributes(mode: UInt16(status.st_mode & 0o777), modificationTime: Int64(status.st_mtim.tv_sec))
        switch status.st_mode & S_IFMT {
        case S_IFDIR:
            let directory = Directory()
            for name in try Files.entries(path) { directory[name] = try read(path + "/" + name, depth: depth + 1) }
            return Node(.directory(directory), attributes)
        case S_IFREG:
            guard access(path, R_OK) == 0 else { throw SystemError.last("read \(path)") }
            return Node(
                .file(status.st_size == 0 ? .empty : .host(HostFile(path: RawPath(path), size: UInt64(status.st_size)))), attributes)
        default: throw BuildError.refused("\(path) is neither a file nor a directory")
        }
    }
}

/// Changes to a tree that are made in memory, as a layer of their own.
final class ChangeTree {
    /// The tree with the changes in it.
    let result: Node
    /// The changes alone.
    let layer: Node
    private let time: Int64

    /// - Parameters:
    ///   - tree: nobody else changes it.
    ///   - time: Unix seconds of new directories.
    init(_ tree: Node, time: Int64) {
        result = tree
        layer = Node(.directory(Directory()), tree.attributes)
        self.time = time
    }

    struct Blocked: Error, CustomStringConvertible {
        let description: String
    }

    /// Puts a node at a path as `cp` does: into it where it is a directory, or ends with a slash.
    /// - Parameter name: of the source.
    func put(_ node: Node, at path: String, name: String) throws {
        let place = TreePath.resolve(path, in: result)
        var names = place.path
        let isInto = path.hasSuffix("/") || place.node?.isDirectory == true
        if place.isBlocked { throw Blocked(description: "a part of the destination is a file in the container") }
        if isInto { names.append(name) }
        guard let last = names.last else { throw Blocked(description: "the destination is the root directory") }
        let (tree, layer) = try directories(Array(names.dropLast()))
        merge(node, last, into: tree, layer)
    }

    /// Puts a node at exactly a path, whatever is there.
    func replace(_ path: String, with node: Node) throws {
        let names = path.split(separator: "/").map(String.init)
        let (tree, layer) = try directories(Array(names.dropLast()))
        guard let last = names.last else { return }
        if tree[last]?.isDirectory == true && node.isDirectory {
            merge(node, last, into: tree, layer)
        } else {
            tree[last] = node
            layer[last] = node
        }
    }

    /// The directory of a path without links, in the tree and in the layer; made where it is missing.
    func directories(_ names: [String]) throws -> (tree: Directory, layer: Directory) {
        guard var tree = result.directory, var layer = layer.directory else { throw Blocked(description: "there is no root directory") }
        for name in names {
            let there = tree[name] ?? .directory(modificationTime: time)
            guard let next = there.directory else { throw Blocked(description: "\(name) is a file in the container") }
            tree[name] = there
            let own = layer[name] ?? Node(.directory(Directory()), there.attributes)
            layer[name] = own
            guard let ownDirectory = own.directory else { throw Blocked(description: "\(name) is a file in the container") }
            tree = next
            layer = ownDirectory
        }
        return (tree, layer)
    }

    /// Makes a directory and those above it. Links of the tree are followed inside the tree.
    func makeDirectory(_ path: String) throws {
        let place = TreePath.resolve(path, in: result)
        if place.isBlocked || place.node.map({ !$0.isDirectory }) == true {
            throw Blocked(description: "\(path): a part of it is a file in the container")
        }
        _ = try directories(place.path)
    }

    private func merge(_ node: Node, _ name: String, into tree: Directory, _ layer: Directory) {
        guard let added = node.directory, let there = tree[name], let below = there.directory else {
            tree[name] = node
            layer[name] = node
            return
        }
        let own = layer[name] ?? Node(.directory(Directory()), there.attributes)
        layer[name] = own
        guard let ownDirectory = own.directory else { return }
        for (child, content) in added.children {
            merge(content, String(decoding: child, as: UTF8.self), into: below, ownDirectory)
        }
    }
}
