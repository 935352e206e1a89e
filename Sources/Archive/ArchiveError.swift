/// Why a tar stream could not be read.
public enum ArchiveError: Error, CustomStringConvertible {
    /// The stream is not a tar, is cut short, or has a header that cannot be right.
    case corrupt(name: String, detail: String)
    /// An entry that must not be taken: its path or link leaves the tree.
    case unsafePath(name: String, path: String, why: String)
    case outOfMemory

    public var description: String {
        switch self {
        case .corrupt(let name, let detail): "\(name) is not a valid tar archive: \(detail)"
        case .unsafePath(let name, let path, let why): "\(name) has the entry \"\(path)\", \(why); the image is refused"
        case .outOfMemory: "out of memory"
        }
    }
}
