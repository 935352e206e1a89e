import SquashFS

/// Makes a tree of a SquashFS image; file contents stay where they are.
public enum SquashFSTree {
    /// - Throws: ``SquashFSError``, also for a directory that contains itself.
    public static func read(_ image: SquashFSImage) throws -> Node {
        var known: [InodeReference: Node] = [:]
        let root = try node(try image.inode(image.root), image)
        // A directory has one name; a second one would be a loop or a bomb.
        var seen: Set<InodeReference> = [image.root]
        var pending = [(root, image.root)]
        while let (parent, reference) = pending.popLast() {
            guard let directory = parent.directory else { continue }
            for entry in try image.entries(of: try image.inode(reference)) {
                if let shared = known[entry.inode] {
                    directory.children[entry.name] = shared
                    continue
                }
                let child = try node(try image.inode(entry.inode), image)
                if child.isDirectory {
                    guard seen.insert(entry.inode).inserted else {
                        throw SquashFSError.corrupt(
                            name: image.name, what: "a directory with two names",
                            position: image.superblock.inodeTableStart + entry.inode.block)
                    }
                    pending.append((child, entry.inode))
                } else {
                    known[entry.inode] = child
                }
                directory.children[entry.name] = child
            }
        }
        return root
    }

    private static func node(_ inode: Inode, _ image: SquashFSImage) throws -> Node {
        let attributes = Attributes(
            mode: inode.mode, uid: inode.uid, gid: inode.gid, modificationTime: Int64(inode.modificationTime),
            xattrs: try image.xattrs(of: inode))
        let content: Node.Content =
            switch inode.content {
            case .directory: .directory(Directory())
            case .file(let layout): .file(layout.size == 0 ? .empty : .image(image, layout))
            case .symlink(let target): .symlink(target)
            case .blockDevice(let number): .blockDevice(number)
            case .characterDevice(let number): .characterDevice(number)
            case .fifo: .fifo
            case .socket: .socket
            }
        return Node(content, attributes)
    }
}
