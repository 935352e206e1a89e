/// A directory of a container in which a package manager keeps what it has downloaded.
package struct PackagePlace {
    /// Without the slash at its beginning.
    let folder: String
    /// What names of packages end in; none where every file is one.
    let endings: [String]
    /// Whether packages are in the directory itself alone; what is below it was unpacked from them.
    var isFlat = false

    /// Where the managers keep packages unless their configuration names another place (apt.conf(5), dnf.conf(5), yum.conf(5),
    /// zypper(8), pacman.conf(5), apk-cache(5), `pip cache`, `conda info`, the Cargo Book's "Cargo Home", `go help modules`).
    /// npm's cache is none of them: npm appends to its files.
    static let all =
        [
            PackagePlace(folder: "var/cache/apt/archives", endings: [".deb"]),
            PackagePlace(folder: "var/cache/dnf", endings: [".rpm"]),
            PackagePlace(folder: "var/cache/libdnf5", endings: [".rpm"]),
            PackagePlace(folder: "var/cache/yum", endings: [".rpm"]),
            PackagePlace(folder: "var/cache/zypp/packages", endings: [".rpm"]),
            PackagePlace(folder: "var/cache/pacman/pkg", endings: [".pkg.tar.zst", ".pkg.tar.xz", ".pkg.tar.gz", ".sig"]),
            PackagePlace(folder: "var/cache/apk", endings: [".apk"]),
            PackagePlace(folder: "etc/apk/cache", endings: [".apk"]),
            PackagePlace(folder: "root/.cache/pip", endings: []),
            PackagePlace(folder: "root/.cargo/registry/cache", endings: [".crate"]),
            PackagePlace(folder: "usr/local/cargo/registry/cache", endings: [".crate"]),
            PackagePlace(folder: "root/go/pkg/mod/cache/download", endings: [".zip", ".ziphash", ".mod", ".info"]),
            PackagePlace(folder: "go/pkg/mod/cache/download", endings: [".zip", ".ziphash", ".mod", ".info"]),
        ] + condaPrefixes.map { PackagePlace(folder: $0 + "/pkgs", endings: [".conda", ".tar.bz2"], isFlat: true) }

    /// Where conda, mamba and micromamba are installed as a rule.
    private static let condaPrefixes =
        ["opt", "root"].flatMap { place in
            ["conda", "miniconda", "miniconda3", "miniforge3", "mambaforge", "micromamba"].map { "\(place)/\($0)" }
        } + ["root/.conda", "root/.local/share/mamba"]

    /// The place that a path is in, or is.
    static func of(_ path: String) -> PackagePlace? {
        all.first { place in
            if path == place.folder { return true }
            guard path.hasPrefix(place.folder + "/") else { return false }
            return !place.isFlat || !path.dropFirst(place.folder.count + 1).contains("/")
        }
    }

    /// Whether a directory is in a place or on the way to one. apt downloads into `partial`.
    package static func leads(_ path: String) -> Bool {
        if path.hasSuffix("/partial") { return false }
        if let place = of(path) { return !place.isFlat || path == place.folder }
        return path.isEmpty || all.contains { $0.folder.hasPrefix(path + "/") }
    }

    /// Whether a file, by its name, is a package that is complete.
    package static func takes(_ path: String) -> Bool {
        guard let place = of(path), !path.contains("/partial/"), !path.hasSuffix(".tmp") else { return false }
        return place.endings.isEmpty || place.endings.contains(where: path.hasSuffix)
    }
}
