import Glibc
import Linux
import Runtime

/// The directory of one build's changes while its sections run.
///
/// Its name says whose it is; a lock says that the build is alive. The next build removes what a killed one has left.
final class TemporaryFolder {
    let path: String
    private let lock: FileLock?
    private let identity: BuildIdentity

    private static let prefix = "singularity-build-"

    init(in folder: String, identity: BuildIdentity) throws {
        Self.removeLeftovers(in: folder, identity)
        self.identity = identity
        while true {
            let path = "\(folder)/\(Self.prefix)\(getuid())-\(getpid())-\(UInt32.random(in: 0 ... .max))"
            guard mkdir(path, 0o700) == 0 else {
                throw BuildError.refused(
                    "cannot make a temporary directory (\(SystemError.last("mkdir \(path)"))); name another place with --tmpdir")
            }
            switch FileLock.share(path) {
            case .taken(let lock):
                (self.path, self.lock) = (path, lock)
                return
            case .unknown:
                (self.path, self.lock) = (path, nil)
                return
            // Another build has taken it for a leftover before it was locked.
            case .gone: rmdir(path)
            }
        }
    }

    /// Removes everything in it. Files of subordinate ids need the user namespace of the build.
    func remove() { Self.remove(path, identity) }

    static func remove(_ path: String, _ identity: BuildIdentity) {
        Files.removeTree(path)
        guard Files.status(path, followLinks: false) != nil else { return }
        _ = try? Process.inChild({
            try identity.enter()
            Files.removeTree(path)
            return []
        }) { _ in }
        rmdir(path)
    }

    private static func removeLeftovers(in folder: String, _ identity: BuildIdentity) {
        let own = "\(prefix)\(getuid())-"
        for name in (try? Files.entries(folder)) ?? [] where name.hasPrefix(own) {
            let path = "\(folder)/\(name)"
            guard let status = Files.status(path, followLinks: false), status.st_uid == getuid(), Files.isDirectory(path) else { continue }
            _ = FileLock.whenUnused(path) { remove(path, identity) }
        }
    }
}
