import FoundationEssentials
import Glibc
import ImageTree
import Linux
import Registry
import SIF
import SquashFS

/// How an image file is written.
public struct ImageOptions: Sendable {
    public var writer: WriterOptions
    /// Unix seconds: newer times are set back to it (SOURCE_DATE_EPOCH).
    public var latestTime: Int64?

    public init(writer: WriterOptions, latestTime: Int64?) {
        self.writer = writer
        self.latestTime = latestTime
    }
}

/// Writes a SIF with one root file system. Same input, same bytes: it has neither an identifier nor times of its own.
public struct SIFTarget {
    private let output: OutputFile
    private let options: ImageOptions

    /// - Parameter path: gets its content only when all is complete.
    public init(_ path: String, options: ImageOptions) throws(SystemError) {
        output = try OutputFile(path, mode: 0o755)
        self.options = options
    }

    /// - Parameters:
    ///   - files: the container's own description.
    ///   - ociConfiguration: the JSON of an OCI image's process configuration.
    ///   - makeTree: hands over contents as they come, and returns the tree.
    public func write(
        files: ContainerFiles, ociConfiguration: [UInt8]?, architecture: Architecture,
        makeTree: (ImageWriter) throws -> Node
    ) throws {
        let sif = try SIFWriter(creating: output.descriptor, name: output.path, time: nil, id: [])
        try sif.add(NewObject(.definitionFile), Array(files.definition.utf8))
        try sif.add(
            NewObject(.genericJSON, name: "inspect-metadata.json"), Array(files.inspectMetadata.compact.utf8))
        if let ociConfiguration { try sif.add(NewObject(.genericJSON, name: "oci-config.json"), ociConfiguration) }
        let partition = NewObject(.partition, detail: .partition(.squashFS, .primarySystem, architecture))
        try sif.add(partition) { (position: UInt64) throws -> UInt64 in
            let writer = try ImageWriter(output.descriptor, at: position, options: options.writer, name: output.path)
            let root = try makeTree(writer)
            files.write(into: root)
            var sink = SquashFSSink(writer, latestTime: options.latestTime)
            return try sink.write(root)
        }
        try sif.commit()
        try output.commit()
    }
}
