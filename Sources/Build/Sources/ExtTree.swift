import ExtFS
import ImageTree
import SquashFS

/// Makes a tree of an ext file system, such as an image of Singularity 2.x.
public enum ExtTree {
    /// - Parameters:
    ///   - path: for messages.
    ///   - folder: a directory of the root, to be the root of the tree; nil for all of it.
    public static func read(_ storage: any VolumeStorage, _ path: String, folder: String? = nil) throws -> Node {
        let image = try ExtImage(storage, name: path)
        var start = ExtImage.root
        if let folder {
            guard let found = try image.entries(start).first(where: { $0.name == Array(folder.utf8) }) else { return .directory() }
            start = found.inode
        }
        let root = try node(try image.inode(start), image)
        guard root.isDirectory else { return .directory() }
        var known: [UInt32: Node] = [:]
        var seen: Set<UInt32> = [start]
        var pending = [(root, start)]
        while let (parent, number) = pending.popLast() {
            guard let directory = parent.directory else { continue }
            for (name, child) in try image.entries(number).sorted(by: { $0.name.lexicographicallyPrecedes($1.name) }) {
                guard !name.isEmpty, !name.contains(UInt8(ascii: "/")), !name.contains(0) else {
                    throw BuildError.badSource(path, why: "a directory in it has a name that no file can have; repair the copy with e2fsck")
                }
                if number == ExtImage.root, name == Array("lost+found".utf8) { continue }
                if let shared = known[child] {
                    directory.children[name] = shared
                    continue
                }
                let inode = try image.inode(child)
                let made = try node(inode, image)
                directory.children[name] = made
                if made.isDirectory {
                    // A directory with two names would be a loop.
                    guard seen.insert(child).inserted else {
                        throw BuildError.badSource(path, why: "a directory in it has two names; repair the copy with e2fsck")
                    }
                    pending.append((made, child))
                } else if inode.linkCount > 1 {
                    known[child] = made
                }
            }
        }
        return root
    }

    private static func node(_ inode: ExtImage.Inode, _ image: ExtImage) throws -> Node {
        let xattrs = image.attributes(inode.number).filter { Xattr.canStore($0.name) }.map { Xattr(name: $0.name, value: $0.value) }
        let attributes = Attributes(
            mode: inode.mode, uid: inode.uid, gid: inode.gid, modificationTime: inode.modificationTime, xattrs: xattrs)
        let content: Node.Content
        switch inode.kind {
        case .directory: content = .directory(Directory())
        case .file:
            let (number, size) = (inode.number, inode.size)
            content = .file(size == 0 ? .empty : .foreign(ForeignFile(size: size) { try image.content(number) }))
        case .symlink(let target): content = .symlink(target)
        case .blockDevice(let major, let minor): content = .blockDevice(number(major, minor))
        case .characterDevice(let major, let minor): content = .characterDevice(number(major, minor))
        case .fifo: content = .fifo
        case .socket: content = .socket
        }
        return Node(content, attributes)
    }

    private static func number(_ major: UInt32, _ minor: UInt32) -> UInt32 { minor & 0xff | major << 8 | (minor & ~0xff) << 12 }
}
