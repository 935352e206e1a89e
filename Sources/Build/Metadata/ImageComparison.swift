import Glibc
import ImageTree
import Linux
import Runtime

/// Compares images, bare SquashFS files and sandboxes.
public enum ImageComparison {
    /// - Parameter keys: for encrypted ones.
    /// - Returns: what was changed to get from one to the other.
    public static func changes(from old: String, to new: String, ignoresTimes: Bool, keys: ImageKeys = .none) throws -> [TreeDiff.Change] {
        try TreeDiff.changes(from: tree(old, keys), to: tree(new, keys), ignoresTimes: ignoresTimes)
    }

    private static func tree(_ path: String, _ keys: ImageKeys) throws -> Node {
        // Files of an ordinary user's sandbox are of those that their records say.
        try StageTree.tree(of: path, getuid() == 0 ? .asStored : .recorded, keys: keys)
    }
}
