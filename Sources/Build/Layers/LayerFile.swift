import BlockIO
import Glibc
import ImageTree
import Linux
import SquashFS

/// A tree of changes as a SquashFS file.
enum LayerFile {
    /// - Parameters:
    ///   - changes: as overlayfs keeps them, see ``LayerTree``.
    ///   - path: of a new file.
    static func write(_ changes: Node, to path: String, options: WriterOptions) throws {
        let file = try OwnedDescriptor.open(path, 0o2 | 0o100 | 0o1000, mode: 0o600)
        let writer = try ImageWriter(file.rawValue, options: options, name: path)
        var sink = SquashFSSink(writer, latestTime: nil)
        _ = try sink.write(changes)
    }

    /// Gives a layer, or what stands beside it, a second name; on another file system it is copied. What has the name keeps it.
    static func duplicate(_ path: String, to target: String) throws {
        if link(path, target) == 0 || errno == EEXIST { return }
        try Files.copy(path, to: target, mode: 0o600)
    }

    static func open(_ path: String) throws -> SquashFSImage { try SquashFSImage(try FileSource(path: path)) }

    /// Whether a layer is all there is, and hides what lies below it.
    static func isWhole(_ image: SquashFSImage) throws -> Bool {
        LayerTree.isOpaque(try image.xattrs(of: try image.inode(image.root)))
    }
}
