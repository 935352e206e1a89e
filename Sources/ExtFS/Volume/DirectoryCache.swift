/// What is known of the directories that were used lately: where each name is, and where there is room for another.
///
/// A directory is a list of blocks with names in no order. Searching it for each name would make a thousand names cost a
/// million comparisons.
struct DirectoryCache {
    final class Directory {
        var names: [[UInt8]: Place] = [:]
        /// Bytes that the largest new entry in each block can have.
        var room: [Int] = []
    }

    struct Place {
        var inode: UInt32
        /// As in a directory entry: 1 for a file, 2 for a directory, ...
        var type: UInt8
        var block: Int
    }

    /// Names of all directories together.
    private static let capacity = 1 << 21
    private var directories: [UInt32: Directory] = [:]
    private var count = 0

    func known(_ number: UInt32) -> Directory? { directories[number] }

    mutating func keep(_ number: UInt32, _ directory: Directory) {
        if count > Self.capacity {
            directories = [:]
            count = 0
        }
        directories[number] = directory
        count += directory.names.count + 8
    }

    mutating func forget(_ number: UInt32) { directories[number] = nil }
}
