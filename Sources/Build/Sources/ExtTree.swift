import ImageTree
import SquashFS

/// Old images.
enum ExtTree {
    static func read(_ path: String, offset: UInt64, writer: ImageWriter) throws -> Node {
        throw BuildError.badSource(path, why: "ext3")
    }
}
