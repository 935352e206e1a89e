import Glibc
import Linux

/// A private directory for sockets, which is gone after a restart of the host.
enum RuntimeFolder {
    /// Its path; nil where none can be had that is the caller's alone.
    static func prepare() -> String? {
        let uid = getuid()
        for path in candidates(uid) {
            if mkdir(path, 0o700) != 0 && errno != EEXIST { continue }
            // Somebody else may have made it, or a link in its place.
            guard let status = Files.status(path, followLinks: false), status.st_mode & S_IFMT == S_IFDIR, status.st_uid == uid,
                status.st_mode & 0o077 == 0
            else { continue }
            return path
        }
        return nil
    }

    /// Takes away one in which there is nothing.
    static func removeIfEmpty() { for path in candidates(getuid()) { rmdir(path) } }

    private static func candidates(_ uid: uid_t) -> [String] {
        var bases: [String] = []
        if let given = Environment["XDG_RUNTIME_DIR"], given.hasPrefix("/") { bases.append(given) }
        bases.append("/run/user/\(uid)")
        if uid == 0 { bases.append("/run") }
        let own = bases.filter { base in
            Files.status(base).map { $0.st_mode & S_IFMT == S_IFDIR && $0.st_uid == uid && $0.st_mode & 0o022 == 0 } ?? false
        }
        return own.map { $0 + "/singularity" } + ["/tmp/.singularity-\(uid)", "/var/tmp/.singularity-\(uid)"]
    }
}
