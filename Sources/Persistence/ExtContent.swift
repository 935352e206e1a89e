import Build
import ExtFS
import Glibc
import ImageTree
import Linux

/// What is in a writable image that nobody changes.
struct ExtContent {
    private let image: WritableImage

    init(_ image: WritableImage) { self.image = image }

    /// Whose the file system is.
    func rootOwner() throws -> (uid: UInt32, gid: UInt32) {
        let root = try ExtImage(image.place.open(), name: image.path).inode(ExtImage.root)
        return (root.uid, root.gid)
    }

    func tree() throws -> Node { try ExtTree.read(image.place.open(), image.path) }
}
