import ImageTree
import Runtime

/// Reads small files of a container, whatever it is kept in.
public struct ContainerReader {
    /// The bytes of a file, nil where there is none. Links are followed inside the container only.
    let bytes: (String) throws -> [UInt8]?
    /// Names in a directory, in no order.
    let names: (String) -> [String]

    init(_ root: Node) {
        bytes = { try TreePath.read($0, in: root) }
        names = { TreePath.find($0, in: root)?.directory?.children.keys.map { String(decoding: $0, as: UTF8.self) } ?? [] }
    }

    /// Of an image or a directory.
    public init(_ image: ImageFile) {
        let view = RootView(image)
        bytes = { view.read($0, limit: 16 << 20) }
        names = { view.names(in: $0) }
    }
}
