import ExtFS
import ImageTree
import SquashFS

/// Makes a tree of an ext file system, such as an image of Singularity 2.x; contents go to the writer at once.
enum ExtTree {
    static func read(_ path: String, offset: UInt64, writer: ImageWriter) throws -> Node {
        let image = try ExtImage(path, offset: offset)
        let root = try node(try image.inode(ExtImage.root), image, writer)
        var known: [UInt32: Node] = [:]
        var seen: Set<UInt32> = [ExtImage.root]
        var pending = [(root, ExtImage.root)]
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
                let made = try node(inode, image, writer)
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

    private static func node(_ inode: ExtImage.Inode, _ image: ExtImage, _ writer: ImageWriter) throws -> Node {
        let xattrs = image.attributes(inode.number).filter { Xattr.canStore($0.name) }.map { Xattr(name: $0.name, value: $0.value) }
        let attributes = Attributes(
            mode: inode.mode, uid: inode.uid, gid: inode.gid, modificationTime: inode.modificationTime, xattrs: xattrs)
        let content: Node.Content
        switch inode.kind {
        case .directory: content = .directory(Directory())
        case .file:
            content = .file(
                inode.size == 0 ? .empty : .stored(try writer.data.store(try image.content(inode.number), size: inode.size)))
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
