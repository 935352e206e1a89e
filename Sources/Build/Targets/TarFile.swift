import Archive
import ImageTree
import Linux

/// A tree as a tar file.
public enum TarFile {
    /// Endings of names of tars that can be written.
    public static let endings = [".tar", ".tar.gz", ".tgz", ".tar.zst"]

    /// Writes it; the file has its name only when all is in it.
    /// - Parameters:
    ///   - path: its ending says how it is compressed.
    ///   - latestTime: Unix seconds; newer times are set back to it.
    public static func write(_ root: Node, to path: String, latestTime: Int64?) throws {
        let compression: TarWriter.Compression = path.hasSuffix("gz") ? .gzip : path.hasSuffix(".zst") ? .zstd : .none
        try write(root, to: path, compression, latestTime: latestTime)
    }

    static func write(_ root: Node, to path: String, _ compression: TarWriter.Compression, latestTime: Int64?) throws {
        let output = try OutputFile(path, mode: 0o644)
        let writer = try TarWriter(compression) { try Files.writeAll($0, to: output.descriptor, name: path) }
        try TarSink(writer, latestTime: latestTime).write(root)
        try writer.finish()
        try output.commit()
    }
}
