import Glibc
import Linux

/// A directory beside the one that it will be, until it is complete. A file can be without a name so long; a directory
/// cannot, so it says in its name which process makes it.
enum UnfinishedDirectory {
    private static let mark = ".part-"

    static func name(for path: String) -> String { "\(path)\(mark)\(getpid())" }

    /// Removes what killed builds of the same target have left.
    static func removeLeftovers(beside path: String) {
        let slash = path.lastIndex(of: "/")
        let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
        for other in (try? Files.entries(folder)) ?? [] where other.hasPrefix(name + mark) {
            let place = "\(folder)/\(other)"
            guard let pid = pid_t(other.dropFirst(name.count + mark.count)), kill(pid, 0) != 0, errno == ESRCH,
                let status = Files.status(place, followLinks: false), status.st_uid == getuid()
            else { continue }
            Files.removeTree(place)
        }
    }
}
