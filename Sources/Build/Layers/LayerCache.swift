import Glibc
import Linux

/// What sections have changed, one SquashFS file a layer, in a directory that any number of builds may use at once.
///
/// A layer appears by rename(2) when it is complete. Who makes one holds its lease; others wait for it. Beside each layer
/// stands a note for people: which line of which recipe it is of.
public struct LayerCache: Sendable {
    public let folder: String
    /// Bytes that are kept; the layers that were used longest ago go first.
    public let limit: UInt64

    /// 20 GiB.
    public static let defaultLimit: UInt64 = 20 << 30

    public init(_ folder: String, limit: UInt64 = defaultLimit) {
        self.folder = folder
        self.limit = limit
    }

    /// Digests of the files that layers are made of.
    var digests: FileDigests { FileDigests(folder: folder + "/digests") }

    func path(_ key: LayerKey) -> String { "\(folder)/\(key.text).sqfs" }

    /// A layer in the cache.
    struct Entry: Sendable {
        var path: String
        var size: UInt64
        /// Unix seconds of its last use.
        var lastUse: Int64
    }

    /// All layers, in no order.
    private func entries() -> [Entry] {
        guard let names = try? Files.entries(folder) else { return [] }
        return names.filter { $0.hasSuffix(".sqfs") }.compactMap { name in
            let path = "\(folder)/\(name)"
            guard let status = Files.status(path, followLinks: false) else { return nil }
            return Entry(path: path, size: UInt64(status.st_size), lastUse: Int64(status.st_mtim.tv_sec))
        }
    }

    /// What a layer is of, for people: `recipe.def:12 %post`; nil for other files of the cache.
    public static func note(of path: String) -> String? {
        (try? Files.readText(notePath(of: path), limit: 4096)).map { String($0.prefix { $0 != "\n" }) }
    }

    /// Where the note on a thing in the cache is.
    static func notePath(of path: String) -> String { path + ".note" }

    /// Whether a file of the cache stands beside a layer and goes with it.
    public static func isBesideLayer(_ name: String) -> Bool { besides.contains(where: name.hasSuffix) }

    private static let besides = [".note", ".log"]

    /// Removes what stands beside a layer.
    public static func removeNotes(of path: String) {
        for ending in besides { unlink(path + ending) }
    }

    private static func remove(_ path: String) {
        unlink(path)
        removeNotes(of: path)
    }

    /// The layer, made where it is not there yet.
    /// - Parameters:
    ///   - note: for people.
    ///   - make: writes the layer to a path; what is there already is what a killed build has left.
    /// - Returns: its path, and whether it was there.
    func layer(_ key: LayerKey, note: String, make: (String) throws -> Void) throws -> (path: String, isCached: Bool) {
        try Files.makeDirectories(folder, mode: 0o700)
        let path = path(key)
        let isMade = try Lease.makeOnce(path + ".lease", isThere: { use(path) }) { lease in
            let part = path + ".part"
            unlink(part)
            let keeper = try Process.fork {
                // On other hosts a lease ends that is not renewed.
                Process.dieWithParent()
                while true {
                    sleep(20)
                    lease.renew()
                }
            }
            defer {
                kill(keeper, SIGKILL)
                Process.wait(for: keeper)
            }
            do {
                try make(part)
                try Files.replace(Self.notePath(of: path), with: Array((note + "\n").utf8), mode: 0o600)
                guard rename(part, path) == 0 else { throw SystemError.last("rename to \(path)") }
            } catch {
                unlink(part)
                throw error
            }
        }
        return (path, !isMade)
    }

    /// Says that a layer is used.
    private func use(_ path: String) -> Bool { utimes(path, nil) == 0 }

    /// Removes what killed builds have left: layers that nobody makes any more, and small files that never got their names.
    func removeLeftovers() {
        for name in (try? Files.entries(digests.folder)) ?? [] where name.hasSuffix(FileDigests.leaseEnding) {
            (try? Lease.take("\(digests.folder)/\(name)"))?.release()
        }
        for name in (try? Files.entries(folder)) ?? [] {
            let path = "\(folder)/\(name)"
            if name.hasSuffix(".part") {
                // Who holds the lease is writing it.
                guard let lease = try? Lease.take(path.dropLast(".part".count) + ".lease") else { continue }
                unlink(path)
                lease.release()
            } else if name.hasSuffix(".tmp"), let status = Files.status(path, followLinks: false),
                Int64(time(nil)) - Int64(status.st_mtim.tv_sec) > 3600
            {
                unlink(path)
            }
        }
    }

    /// Keeps the cache below its limit.
    /// - Parameter kept: layers that are in use.
    func shrink(keeping kept: [String]) {
        let entries = entries()
        var total = entries.reduce(0) { $0 + $1.size }
        for entry in entries.sorted(by: { $0.lastUse < $1.lastUse }) where total > limit && !kept.contains(entry.path) {
            // A build marks what it uses.
            if FileLock.whenUnused(entry.path, { Self.remove(entry.path) }) { total -= entry.size }
        }
    }
}
