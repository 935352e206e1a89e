import ImageTree
import Linux
import SquashFS

/// Writes a directory as a bare SquashFS file: data for many containers, or an image without a description.
public struct SquashFSTarget {
    private let output: OutputFile
    private let options: ImageOptions

    /// - Parameter path: gets its content only when all is complete.
    public init(_ path: String, options: ImageOptions) throws(SystemError) {
        output = try OutputFile(path, mode: 0o644)
        self.options = options
    }

    public func write(treeOf folder: String) throws {
        let writer = try ImageWriter(output.descriptor, options: options.writer, name: output.path)
        var sink = SquashFSSink(writer, latestTime: options.latestTime)
        _ = try sink.write(try HostTree.read(folder))
        try output.commit()
    }
}
