import ImageTree

/// Arch's packages (pacman's local database: a directory with a `desc` file for each).
enum PacmanDatabase {
    private static let folder = "/var/lib/pacman/local"

    static func packages(_ root: Node, _ text: (String) -> String?) -> [InstalledPackage] {
        (TreePath.find(folder, in: root)?.directory?.sorted ?? []).compactMap { name, node in
            let path = "\(folder)/\(String(decoding: name, as: UTF8.self))/desc"
            guard node.isDirectory, let content = text(path) else { return nil }
            var fields: [Substring: Substring] = [:]
            var key: Substring?
            for line in content.split(separator: "\n", omittingEmptySubsequences: false) {
                if line.hasPrefix("%") {
                    key = line
                } else if let name = key, !line.isEmpty {
                    fields[name] = fields[name] ?? line
                }
            }
            guard let name = fields["%NAME%"], let version = fields["%VERSION%"] else { return nil }
            return InstalledPackage(
                .alpm, name: String(name), version: String(version), architecture: fields["%ARCH%"].map(String.init),
                license: fields["%LICENSE%"].map(String.init), supplier: fields["%PACKAGER%"].map(String.init),
                homepage: fields["%URL%"].map(String.init), source: path)
        }
    }
}
