import BlockIO
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

    static func open(_ path: String) throws -> SquashFSImage { try SquashFSImage(try FileSource(path: path)) }

    /// Whether a layer is all there is, and hides what lies below it.
    static func isWhole(_ image: SquashFSImage) throws -> Bool {
        LayerTree.isOpaque(try image.xattrs(of: try image.inode(image.root)))
    }
}
