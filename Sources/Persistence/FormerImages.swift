import Glibc
import Linux
import Runtime

/// Images that a commit has replaced and that were kept: going back to one is a matter of names, whatever its size.
public struct FormerImages {
    private let folder: StateFolder
    private var image: String { folder.image }

    public init(_ path: String) throws {
        folder = try StateFolder(of: path, suffix: ".former", ending: ".sif", noun: "former image")
    }

    /// The oldest first.
    public func list() throws -> [Snapshots.Snapshot] { try folder.list() }

    /// Keeps the present image, by another name for the same file.
    /// - Parameter name: nil for the present time.
    /// - Returns: its name.
    public func keep(_ name: String?) throws -> String {
        let (name, path) = try folder.newFile(name)
        guard link(image, path) == 0 else {
            let error = SystemError.last("link \(path)")
            folder.removeIfEmpty()
            throw error
        }
        return name
    }

    /// Puts a former image in the place of the present one, which is kept. At each moment the image's name is that of one of
    /// the two.
    /// - Parameter name: nil for the newest.
    /// - Returns: the names of the one that is the image now, and of the one that was.
    public func rollBack(to name: String?) throws -> (restored: String, kept: String) {
        guard let wanted = try name ?? list().last?.name else {
            throw PersistenceError.refused("no former image of \(image) was kept; `commit --replace --keep` keeps one")
        }
        let path = try folder.file(wanted)
        guard Files.status(path) != nil else { throw folder.unknown(wanted) }
        // Who writes into it would go on in the file that is not the image any more.
        if let holder = (try? WritableImage(image))?.holder {
            throw PersistenceError.refused("\(image) is being written by \(holder.text): end that first")
        }
        let kept = try keep(nil)
        guard rename(path, image) == 0 else {
            let error = SystemError.last("rename \(path)")
            try? folder.remove(kept)
            throw error
        }
        return (wanted, kept)
    }

    public func remove(_ name: String) throws { try folder.remove(name) }
}
