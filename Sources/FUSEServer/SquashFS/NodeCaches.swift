import Linux
import SquashFS

/// Where the bytes of files are that were read lately: the list of a large file's blocks is long.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
final class FileCache: @unchecked Sendable {
    private static let capacity = 2048
    private let lock = Monitor()
    private var layouts: [UInt64: FileLayout] = [:]

    func layout(
        _ node: UInt64, _ load: () throws(SquashFSError) -> FileLayout?
    ) throws(SquashFSError) -> FileLayout? {
        if let known = lock.locked({ layouts[node] }) { return known }
        guard let layout = try load() else { return nil }
        lock.locked {
            if layouts.count >= Self.capacity { layouts.removeAll(keepingCapacity: true) }
            layouts[node] = layout
        }
        return layout
    }
}

/// Listings of directories that are being read: a reader comes back for the next part of a long one.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
final class ListingCache: @unchecked Sendable {
    /// Entries of all listings together.
    private static let capacity = 1 << 16
    private let lock = Monitor()
    private var listings: [UInt64: [DirectoryEntry]] = [:]
    private var count = 0

    func entries(
        _ node: UInt64, _ load: () throws(SquashFSError) -> [DirectoryEntry]
    ) throws(SquashFSError) -> [DirectoryEntry] {
        if let known = lock.locked({ listings[node] }) { return known }
        let entries = try load()
        lock.locked {
            if count + entries.count > Self.capacity {
                listings.removeAll(keepingCapacity: true)
                count = 0
            }
            listings[node] = entries
            count += entries.count
        }
        return entries
    }
}
