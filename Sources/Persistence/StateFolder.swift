import Glibc
import Linux

/// A directory beside an image that has former states of it, a file each.
struct StateFolder {
    /// What a state is called, in messages.
    private let noun: String
    /// The image's path, links followed.
    let image: String
    private let path: String
    /// Of the files' names.
    private let ending: String

    /// - Parameter suffix: of the directory, behind the image's name.
    init(of path: String, suffix: String, ending: String, noun: String) throws {
        guard let image = Files.resolved(path) else { throw PersistenceError.refused("\(path): \(SystemError.last("open").reason)") }
        self.image = image
        self.ending = ending
        self.noun = noun
        self.path = image + suffix
    }

    /// The file of a state.
    func file(_ name: String) throws -> String {
        guard !name.isEmpty, !name.hasPrefix("."), !name.contains("/"), name.utf8.count < 200 else {
            throw PersistenceError.refused("\(name) is no name for a \(noun): no slash, and no dot in front")
        }
        return "\(path)/\(name)\(ending)"
    }

    /// The file of a new state; the directory is made.
    /// - Parameter name: nil for the present time.
    func newFile(_ name: String?) throws -> (name: String, path: String) {
        let name = try name ?? nameOfNow()
        let target = try file(name)
        guard Files.status(target, followLinks: false) == nil else {
            throw PersistenceError.refused("there is a \(noun) \(name) of \(image) already; choose another name")
        }
        try Files.makeDirectories(path, mode: 0o700)
        return (name, target)
    }

    /// The present time, with a number where there is a state of this second.
    private func nameOfNow() throws -> String {
        let time = CivilTime(Int64(time(nil))).rfc3339.replacing(":", with: "-")
        var name = time
        var number = 2
        while Files.status(try file(name), followLinks: false) != nil {
            name = "\(time)-\(number)"
            number += 1
        }
        return name
    }

    /// The oldest first.
    func list() throws -> [Snapshots.Snapshot] {
        guard Files.isDirectory(path) else { return [] }
        return try Files.entries(path).filter { $0.hasSuffix(ending) && !$0.hasPrefix(".") }.compactMap { name in
            guard let status = Files.status("\(path)/\(name)") else { return nil }
            return Snapshots.Snapshot(
                name: String(name.dropLast(ending.utf8.count)), time: Int64(status.st_ctim.tv_sec), size: UInt64(status.st_blocks) * 512)
        }.sorted { ($0.time, $0.name) < ($1.time, $1.name) }
    }

    /// That there is none of a name.
    func unknown(_ name: String) -> PersistenceError {
        let known = ((try? list()) ?? []).map(\.name).joined(separator: ", ")
        return .refused("there is no \(noun) \(name) of \(image)" + (known.isEmpty ? "" : "; there are \(known)"))
    }

    func remove(_ name: String) throws {
        guard unlink(try file(name)) == 0 else { throw unknown(name) }
        removeIfEmpty()
    }

    func removeIfEmpty() { rmdir(path) }
}
