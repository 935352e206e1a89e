import BlockIO
import ImageTree
import Linux
import Runtime
import SquashFS

/// The files of a stage at one point of its build: a base and the layers over it.
struct StageTree: Sendable {
    /// A SIF, SquashFS file or directory; nil for nothing.
    var base: String?
    /// Of the base, where it is a directory that was unpacked from images.
    var origins: SandboxOrigins?
    /// Layer files, the oldest first.
    var layers: [String] = []

    /// The newest first, as they are mounted.
    var lowers: [ImageFile] {
        get throws {
            try (layers.reversed() + (base.map { [$0] } ?? [])).map { try ImageFile.open($0, workingDirectory: Files.workingDirectory) }
        }
    }

    /// All of it as one tree.
    func merged(_ ownership: HostTree.Ownership) throws -> Node {
        var root = Node.directory()
        if let base { root = try Self.tree(of: base, ownership, origins: origins) }
        for layer in layers { root = LayerTree.apply(try SquashFSTree.read(try LayerFile.open(layer)), to: root) }
        return root
    }

    static func tree(of path: String, _ ownership: HostTree.Ownership, keys: ImageKeys = .none, origins: SandboxOrigins? = nil) throws
        -> Node
    {
        switch try ImageFile.open(path, workingDirectory: Files.workingDirectory, keys: keys).content {
        case .directory: return try HostTree.read(path, ownership: ownership) { origins?.content($0) }
        case .squashFS(let image, _, _, _): return try SquashFSTree.read(image)
        case .ext: throw BuildError.badSource(path, why: "an ext file system is converted before it is built on")
        }
    }

    /// How the base is compressed, so that its blocks can be taken over.
    var baseFormat: (superblock: SquashFS.Superblock, blockSize: Int)? {
        if let origins { return origins.format }
        guard let base, case .squashFS(let image, _, _, _)? = try? ImageFile.open(base, workingDirectory: Files.workingDirectory).content
        else { return nil }
        return (image.superblock, image.blockSize)
    }
}
