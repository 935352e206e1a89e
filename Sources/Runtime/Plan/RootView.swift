import CLinux
import Glibc
import Linux
import SquashFS

/// Looks into an image before it is mounted. Paths are resolved inside it: links and `..` cannot leave it.
package struct RootView {
    private let image: ImageFile

    package init(_ image: ImageFile) { self.image = image }

    package enum Kind: Equatable { case directory, file, other }

    /// Where a path leads.
    package struct Resolution: Equatable {
        /// Names of what is there, with links followed.
        package var existing: [String]
        /// Kind and permission bits of the last of them.
        package var kind: Kind
        package var mode: UInt16
        /// Names behind that, which are not there.
        package var missing: [String]
    }

    /// The content of a small regular file, nil where there is none.
    package func read(_ path: String, limit: Int = 1 << 20) -> [UInt8]? {
        switch image.content {
        case .squashFS(let image, _, _, _):
            guard let inode = try? image.resolve(path), case .file = inode.content else { return nil }
            return try? image.content(of: inode, limit: limit)
        case .ext: return nil
        case .directory(let root):
            guard let file = try? Files.open(inRoot: root.rawValue, path, O_RDONLY | O_NONBLOCK | O_NOCTTY),
                let status = try? Files.status(file.rawValue, name: path), status.st_mode & S_IFMT == S_IFREG
            else { return nil }
            return try? Files.read(file, name: path, limit: limit)
        }
    }

    /// A regular file, links followed; nil where there is none.
    package func file(_ path: String) -> RootFile? {
        switch image.content {
        case .squashFS(let image, _, _, _):
            guard let inode = try? image.resolve(path), case .file(let layout) = inode.content else { return nil }
            return RootFile(image, layout)
        case .ext: return nil
        case .directory(let root):
            guard let file = try? Files.open(inRoot: root.rawValue, path, O_RDONLY | O_NONBLOCK | O_NOCTTY) else { return nil }
            return RootFile(file)
        }
    }

    /// What is at a path, links followed; nil where there is nothing.
    package func kind(of path: String) -> Kind? {
        guard let found = resolve(path), found.missing.isEmpty else { return nil }
        return found.kind
    }

    /// Follows a path as far as it exists. Nil where a file stands in its way.
    package func resolve(_ path: String) -> Resolution? {
        var existing: [String] = []
        var pending = Array(path.split(separator: "/").map(String.init).reversed())
        var last = Resolution(existing: [], kind: .directory, mode: 0o755, missing: [])
        var links = 0
        while let name = pending.popLast() {
            if name == "." { continue }
            if name == ".." {
                if !existing.isEmpty { existing.removeLast() }
                continue
            }
            guard let found = look(existing + [name]) else {
                last.existing = existing
                last.missing = [name] + pending.reversed()
                // A missing name cannot be gone back from.
                return last.missing.contains("..") ? nil : last
            }
            if let target = found.link {
                links += 1
                guard links < 40 else { return nil }
                if target.hasPrefix("/") { existing = [] }
                pending += target.split(separator: "/").reversed().map(String.init)
                continue
            }
            existing.append(name)
            last = Resolution(existing: existing, kind: found.kind, mode: found.mode, missing: [])
            if found.kind != .directory && !pending.isEmpty { return nil }
        }
        last.existing = existing
        return last
    }

    /// Permission bits of an object at a path without links, nil where there is none.
    func mode(_ names: [String]) -> UInt16? { look(names)?.mode }

    /// Names in a directory, sorted; none where it is not there.
    package func names(in path: String) -> [String] {
        switch image.content {
        case .squashFS(let image, _, _, _):
            guard let inode = try? image.resolve(path), case .directory = inode.content,
                let entries = try? image.entries(of: inode)
            else { return [] }
            return entries.map { String(decoding: $0.name, as: UTF8.self) }
        case .ext: return []
        case .directory(let root):
            guard let folder = try? Files.open(inRoot: root.rawValue, path, O_RDONLY | O_DIRECTORY) else { return [] }
            return ((try? Files.entries("/proc/self/fd/\(folder.rawValue)")) ?? []).sorted()
        }
    }

    /// The object at a path without links, nil where there is none.
    private func look(_ names: [String]) -> (kind: Kind, mode: UInt16, link: String?)? {
        let path = names.joined(separator: "/")
        switch image.content {
        case .squashFS(let image, _, _, _):
            guard let inode = try? image.lookUp(path) else { return nil }
            switch inode.content {
            case .directory: return (.directory, inode.mode, nil)
            case .file: return (.file, inode.mode, nil)
            case .symlink(let target): return (.other, inode.mode, String(decoding: target, as: UTF8.self))
            default: return (.other, inode.mode, nil)
            }
        case .ext: return nil
        case .directory(let root):
            guard let file = try? Files.open(inRoot: root.rawValue, path, O_PATH_FLAG | O_NOFOLLOW),
                let status = try? Files.status(file.rawValue, name: path)
            else { return nil }
            let mode = UInt16(status.st_mode & 0o7777)
            switch status.st_mode & S_IFMT {
            case S_IFDIR: return (.directory, mode, nil)
            case S_IFREG: return (.file, mode, nil)
            case S_IFLNK: return (.other, mode, Files.readLink(file.rawValue))
            default: return (.other, mode, nil)
            }
        }
    }
}

/// O_PATH, which the C library's module hides behind _GNU_SOURCE.
let O_PATH_FLAG: CInt = 0o10000000
