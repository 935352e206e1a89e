import Glibc
import Linux

/// Which images the configuration lets run. Decided on the file that is open, and is then mounted.
struct ImagePolicy {
    let configuration: Configuration

    func check(_ image: ImageFile) throws(RuntimeError) {
        let kind = image.container
        guard configuration.has("allow container \(kind.rawValue)") else {
            throw .badImage(image.path, why: "the configuration doesn't allow such images (allow container \(kind.rawValue) = no)")
        }
        if image.isEncrypted, !configuration.has("allow container encrypted") {
            throw .badImage(image.path, why: "the configuration doesn't allow encrypted images (allow container encrypted = no)")
        }
        let owners = configuration.values("limit container owners")
        let groups = configuration.values("limit container groups")
        let paths = configuration.values("limit container paths")
        if owners.isEmpty && groups.isEmpty && paths.isEmpty { return }
        guard let (status, path) = opened(image) else { throw .badImage(image.path, why: "its owner and place cannot be found out") }
        if !owners.isEmpty {
            let allowed = owners.contains { name in getpwnam(name).map { $0.pointee.pw_uid == status.st_uid } ?? false }
            if !allowed {
                throw .badImage(image.path, why: "the configuration lets only images of certain owners run (limit container owners)")
            }
        }
        if !groups.isEmpty {
            let allowed = groups.contains { name in getgrnam(name).map { $0.pointee.gr_gid == status.st_gid } ?? false }
            if !allowed {
                throw .badImage(image.path, why: "the configuration lets only images of certain groups run (limit container groups)")
            }
        }
        if !paths.isEmpty {
            // Names are compared, not text: /scratch does not allow /scratch2.
            let allowed = paths.contains { folder in
                Files.resolved(folder).map { LaunchPlanner.isPath(path, within: $0) } ?? false
            }
            if !allowed {
                throw .badImage(image.path, why: "the configuration lets only images below certain directories run (limit container paths)")
            }
        }
    }

    /// Of the open file: its status, and the path that leads to it, without links.
    private func opened(_ image: ImageFile) -> (stat, String)? {
        switch image.content {
        case .squashFS(_, let file, _, _), .directory(let file):
            guard let status = try? Files.status(file.rawValue, name: image.path),
                let path = Files.readLink("/proc/self/fd/\(file.rawValue)")
            else { return nil }
            return (status, path)
        case .ext:
            guard let path = Files.resolved(image.path), let status = Files.status(path) else { return nil }
            return (status, path)
        }
    }
}
