import CLinux
import Glibc
import Linux
import SquashFS

/// Makes a tree of a directory on the host, such as a sandbox or the upper layer of a build.
public struct HostTree {
    /// Whose the files are in the tree.
    public enum Ownership: Sendable {
        /// As the host says, where that is not root; a record says who else root stands for.
        case asStored
        /// The same in a user namespace, where files of others than its users count as root's.
        case mapped
        /// As their ``OwnerRecord`` says, and root's where they have none.
        case recorded
    }

    /// A file of the host, to tell names of one file.
    private struct FileIdentity: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    /// Before the names of attributes that an ordinary user's sandbox cannot have, such as file capabilities.
    static let keptPrefix = "user.singularity.xattr."

    /// Who does not exist in a user namespace (user_namespaces(7)).
    private static let overflow: UInt32 = 65534

    private let ownership: Ownership
    private let others: [UInt64: (uid: UInt32, gid: UInt32)]
    private let known: (stat) -> FileContent?
    private var links: [FileIdentity: Node] = [:]

    private init(_ ownership: Ownership, _ others: [UInt64: (uid: UInt32, gid: UInt32)], _ known: @escaping (stat) -> FileContent?) {
        self.ownership = ownership
        self.others = others
        self.known = known
    }

    /// - Parameters:
    ///   - others: owners of links, pipes and sockets, which can have no record, by inode number.
    ///   - known: where else the bytes of a file that is not empty are to be had, which then is not opened.
    /// - Throws: ``SystemError`` that names what could not be read.
    public static func read(
        _ path: String, ownership: Ownership = .asStored, others: [UInt64: (uid: UInt32, gid: UInt32)] = [:],
        known: @escaping (stat) -> FileContent? = { _ in nil }
    ) throws -> Node {
        var reader = HostTree(ownership, others, known)
        return try reader.read(RawPath(path))
    }

    private mutating func read(_ path: RawPath) throws -> Node {
        let root = try node(path)
        var pending = [(root, path)]
        while let (parent, path) = pending.popLast() {
            guard let directory = parent.directory else { continue }
            for name in try Files.entries(path) {
                let place = path.appending(name)
                let child = try node(place)
                directory.children[name] = child
                if child.isDirectory { pending.append((child, place)) }
            }
        }
        return root
    }

    private mutating func node(_ path: RawPath) throws -> Node {
        guard let status = Files.status(path) else { throw SystemError.last("stat \(path)") }
        let identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        if status.st_nlink > 1, let known = links[identity] { return known }
        var attributes = Attributes(
            mode: UInt16(status.st_mode & 0o7777), uid: status.st_uid, gid: status.st_gid,
            modificationTime: Int64(status.st_mtim.tv_sec), xattrs: ExtendedAttributes.read(path))
        var content = try content(path, status)
        let isRegular = [S_IFREG, S_IFDIR].contains(status.st_mode & S_IFMT)
        apply(&attributes, &content, identity, isRegular: isRegular)
        let result = Node(content, attributes)
        if status.st_nlink > 1 && !result.isDirectory { links[identity] = result }
        return result
    }

    private func apply(_ attributes: inout Attributes, _ content: inout Node.Content, _ identity: FileIdentity, isRegular: Bool) {
        let index = attributes.xattrs.firstIndex { $0.name == OwnerRecord.attribute }
        let record = index.flatMap { OwnerRecord(parsing: attributes.xattrs[$0].value) }
        if let index { attributes.xattrs.remove(at: index) }
        for (index, attribute) in attributes.xattrs.enumerated() where attribute.name.hasPrefix(Self.keptPrefix) {
            attributes.xattrs[index].name = String(attribute.name.dropFirst(Self.keptPrefix.count))
        }
        switch ownership {
        case .asStored: break
        case .mapped:
            if attributes.uid == Self.overflow { attributes.uid = 0 }
            if attributes.gid == Self.overflow { attributes.gid = 0 }
        case .recorded:
            attributes.uid = 0
            attributes.gid = 0
        }
        if !isRegular, let owner = others[identity.inode] { (attributes.uid, attributes.gid) = owner }
        guard let record else { return }
        if attributes.uid == 0 && attributes.gid == 0 {
            attributes.uid = record.uid
            attributes.gid = record.gid
        }
        // Who has changed the mode since then has meant it.
        if let mode = record.mode, mode | 0o700 == attributes.mode { attributes.mode = mode }
        if let device = record.device, case .file(.empty) = content, let number = Device.encoded(device.number) {
            content = device.isBlock ? .blockDevice(number) : .characterDevice(number)
        }
    }

    private func content(_ path: RawPath, _ status: stat) throws -> Node.Content {
        switch status.st_mode & S_IFMT {
        case S_IFDIR: return .directory(Directory())
        case S_IFREG:
            if status.st_size == 0 { return .file(.empty) }
            return .file(known(status) ?? .host(HostFile(path: path, size: UInt64(status.st_size))))
        case S_IFLNK: return .symlink(try Files.linkTarget(path))
        case S_IFBLK: return .blockDevice(Device.encoded(UInt64(status.st_rdev)) ?? 0)
        case S_IFCHR: return .characterDevice(Device.encoded(UInt64(status.st_rdev)) ?? 0)
        case S_IFIFO: return .fifo
        default: return .socket
        }
    }
}

extension HostFile {
    func bytes(limit: Int) throws -> [UInt8] { try Files.read(try OwnedDescriptor.open(path), name: "\(path)", limit: limit) }
}

/// Extended attributes of a host file.
enum ExtendedAttributes {
    static func read(_ path: RawPath) -> [Xattr] { path.withCString(read) }

    private static func read(_ path: UnsafePointer<CChar>) -> [Xattr] {
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
