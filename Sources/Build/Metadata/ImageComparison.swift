import Glibc
import ImageTree
import Linux

/// Compares images, bare SquashFS files and sandboxes.
public enum ImageComparison {
    /// - Returns: what was changed to get from one to the other.
    public static func changes(from old: String, to new: String, ignoresTimes: Bool) throws -> [TreeDiff.Change] {
        try TreeDiff.changes(from: tree(old), to: tree(new), ignoresTimes: ignoresTimes)
    }

    private static func tree(_ path: String) throws -> Node {
        // Files of an ordinary user's sandbox are of those that their records say.
        try StageTree.tree(of: path, getuid() == 0 ? .asStored : .recorded)
    }
}
