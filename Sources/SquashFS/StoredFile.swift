/// The content of a file that was handed to a ``DataWriter``.
///
/// Positions are known once ``DataWriter/finish()`` has returned.
/// `@unchecked Sendable`: written by the writer's threads under its lock, read after they have ended.
public final class StoredFile: @unchecked Sendable {
    /// Bytes of the file.
    public internal(set) var size: UInt64 = 0
    var start: UInt64 = 0
    var blocks: [BlockWord] = []
    var fragment: UInt32?
    var fragmentOffset: UInt32 = 0
    /// Bytes that holes stand for.
    var sparseBytes: UInt64 = 0

    init() {}

    /// An empty file, which stores nothing.
    public static let empty = StoredFile()

    var layout: FileLayout {
        FileLayout(start: start, size: size, blocks: blocks, fragment: fragment, fragmentOffset: fragmentOffset)
    }
}
