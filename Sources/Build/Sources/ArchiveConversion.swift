import BlockIO
import Compression
import ExtFS
import ImageTree
import Linux
import SquashFS

/// Makes a SquashFS file of a tar or of an old image, without unpacking it.
struct ArchiveConversion {
    let path: String
    let options: ImageOptions

    func write(_ kind: FileKind, to file: String) throws {
        let output = try OwnedDescriptor.open(file, 0o2 | 0o100 | 0o1000, mode: 0o600)
        let writer = try ImageWriter(output.rawValue, options: options.writer, name: file)
        let root: Node
        switch kind {
        case .archive: root = try archive(writer)
        case .extFileSystem(let offset):
            root = try ExtTree.read(PlainVolumeFile(SharedDescriptor(try OwnedDescriptor.open(path)), start: offset), path)
        case .image: throw BuildError.badSource(path, why: "it is an image already")
        }
        var sink = SquashFSSink(writer, latestTime: options.latestTime)
        _ = try sink.write(root)
    }

    private func archive(_ writer: ImageWriter) throws -> Node {
        let merger = LayerMerger { content, size in .stored(try writer.data.store(content, size: size)) }
        let layer = LayerSource(name: path, diffID: nil) { try FileStream(path: path) }
        do { try merger.add(layer: 0, name: path) { try layer.openPlain() } } catch let error as CompressionError {
            throw BuildError.badSource(path, why: "\(error)")
        }
        return try merger.finish()
    }
}
