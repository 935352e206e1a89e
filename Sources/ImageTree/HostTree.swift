import CLinux
import Glibc
import Linux
import SquashFS

/// Makes a tree of a directory on the host, such as a sandbox.
public enum HostTree {
    /// - Throws: ``SystemError`` that names what could not be read.
    public static func read(_ path: String) throws -> Node {
        var links: [FileIdentity: Node] = [:]
        let root = try node(path, &links)
        var pending = [(root, path)]
        while let (parent, path) = pending.popLast() {
            guard let directory = parent.directory else { continue }
            for name in try Files.entries(path) {
                let child = try node(path + "/" + name, &links)
                directory[name] = child
                if child.isDirectory { pending.append((child, path + "/" + name)) }
            }
        }
        return root
    }

    private struct FileIdentity: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    private static func node(_ path: String, _ links: inout [FileIdentity: Node]) throws -> Node {
        guard let status = Files.status(path, followLinks: false) else { throw SystemError.last("stat \(path)") }
        let identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        if let known = links[identity] { return known }
        let attributes = Attributes(
            mode: UInt16(status.st_mode & 0o7777), uid: status.st_uid, gid: status.st_gid,
            modificationTime: Int64(status.st_mtim.tv_sec), xattrs: ExtendedAttributes.read(path))
        let result = Node(try content(path, status), attributes)
        if status.st_nlink > 1 && !result.isDirectory { links[identity] = result }
        return result
    }

    private static func content(_ path: String, _ status: stat) throws -> Node.Content {
        switch status.st_mode & S_IFMT {
        case S_IFDIR: return .directory(Directory())
        case S_IFREG:
            return .file(status.st_size == 0 ? .empty : .host(HostFile(path: path, size: UInt64(status.st_size))))
        case S_IFLNK: return .symlink(Array((Files.readLink(path) ?? "").utf8))
        case S_IFBLK: return .blockDevice(Device.encoded(UInt64(status.st_rdev)) ?? 0)
        case S_IFCHR: return .characterDevice(Device.encoded(UInt64(status.st_rdev)) ?? 0)
        case S_IFIFO: return .fifo
        default: return .socket
        }
    }
}

/// Extended attributes of a host file.
enum ExtendedAttributes {
    static func read(_ path: String) -> [Xattr] {
        let size = llistxattr(path, nil, 0)
        guard size > 0 else { return [] }
        var names = [CChar](repeating: 0, count: size)
        let used = llistxattr(path, &names, size)
        guard used > 0 else { return [] }
        let all = names[..<used].split(separator: 0).map { String(decoding: $0.map(UInt8.init(bitPattern:)), as: UTF8.self) }
        return all.filter(Xattr.canStore).compactMap { name in
            let count = lgetxattr(path, name, nil, 0)
            guard count >= 0 else { return nil }
            var value = [UInt8](repeating: 0, count: count)
            let filled = lgetxattr(path, name, &value, count)
            return filled >= 0 ? Xattr(name: name, value: Array(value[..<filled])) : nil
        }
    }
}
