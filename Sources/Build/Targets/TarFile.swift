import Archive
import Compression
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
    ///   - threads: that compress.
    public static func write(_ root: Node, to path: String, latestTime: Int64?, threads: Int) throws {
        guard path.hasSuffix("gz") else {
            return try write(root, to: path, path.hasSuffix(".zst") ? .zstd : .none, latestTime: latestTime)
        }
        let output = try OutputFile(path, mode: 0o644)
        let gzip = try GzipWriter(threads: threads) { try Files.writeAll($0, to: output.descriptor, name: path) }
        let writer = try TarWriter(.none) { try gzip.write($0) }
        try TarSink(writer, latestTime: latestTime).write(root)
        try writer.finish()
        try gzip.finish()
        try output.commit()
    }

    static func write(_ root: Node, to path: String, _ compression: TarWriter.Compression, latestTime: Int64?) throws {
        let output = try OutputFile(path, mode: 0o644)
        let writer = try TarWriter(compression) { try Files.writeAll($0, to: output.descriptor, name: path) }
        try TarSink(writer, latestTime: latestTime).write(root)
        try writer.finish()
        try output.commit()
    }
}
