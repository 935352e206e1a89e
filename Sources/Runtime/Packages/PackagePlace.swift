/// A directory of a container in which a package manager keeps what it has downloaded.
package struct PackagePlace {
    /// Without the slash at its beginning.
    let folder: String
    /// What names of packages end in; none where every file is one.
    let endings: [String]

    /// Where the managers keep packages unless their configuration names another place (apt.conf(5), dnf.conf(5), yum.conf(5),
    /// zypper(8), pacman.conf(5), `pip cache`).
    static let all = [
        PackagePlace(folder: "var/cache/apt/archives", endings: [".deb"]),
        PackagePlace(folder: "var/cache/dnf", endings: [".rpm"]),
        PackagePlace(folder: "var/cache/libdnf5", endings: [".rpm"]),
        PackagePlace(folder: "var/cache/yum", endings: [".rpm"]),
        PackagePlace(folder: "var/cache/zypp/packages", endings: [".rpm"]),
        PackagePlace(folder: "var/cache/pacman/pkg", endings: [".pkg.tar.zst", ".pkg.tar.xz", ".pkg.tar.gz", ".sig"]),
        PackagePlace(folder: "root/.cache/pip", endings: []),
    ]

    /// The place that a path is in, or is.
    static func of(_ path: String) -> PackagePlace? { all.first { path == $0.folder || path.hasPrefix($0.folder + "/") } }

    /// Whether a directory is in a place or on the way to one. apt downloads into `partial`.
    package static func leads(_ path: String) -> Bool {
        if path.hasSuffix("/partial") { return false }
        return of(path) != nil || path.isEmpty || all.contains { $0.folder.hasPrefix(path + "/") }
    }

    /// Whether a file, by its name, is a package that is complete.
    package static func takes(_ path: String) -> Bool {
        guard let place = of(path), !path.contains("/partial/"), !path.hasSuffix(".tmp") else { return false }
        return place.endings.isEmpty || place.endings.contains(where: path.hasSuffix)
    }
}
