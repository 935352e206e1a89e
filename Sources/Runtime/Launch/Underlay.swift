import Glibc
import Linux

/// A root without an overlay: a tree in memory in which all that the image has is shown by bind mounts, and what it lacks
/// is added between them.
struct Underlay {
    let layer: SessionLayer
    let view: RootView

    /// Builds the tree in ``Session/root``. The session is the working directory, and the image is mounted in it.
    func make() throws(SystemError) {
        try Mounting.mount("tmpfs", source: "singularity", on: Session.root, flags: [.noSuid, .noDev], options: "mode=0755")
        let added = Set(layer.entries.filter { view.mode($0.path) == nil }.map(\.path))
        // Directories that get something the image lacks: made anew, with what the image has in them beside it.
        var opened: Set<[String]> = [[]]
        for path in added { for count in 0..<path.count { opened.insert(Array(path.prefix(count))) } }
        for folder in opened.sorted(by: { $0.count < $1.count }) {
            let place = Session.root + folder.map { "/" + $0 }.joined()
            if folder.isEmpty {
                guard chmod(place, mode_t(layer.rootMode)) == 0 else { throw .last("chmod \(place)") }
            } else {
                try Session.makeDirectory(place, mode: mode_t((view.mode(folder) ?? 0o755) | 0o700))
            }
            for name in view.names(in: "/" + folder.joined(separator: "/")) where !opened.contains(folder + [name]) {
                try show(folder + [name], as: place + "/" + name)
            }
        }
        for entry in layer.entries where added.contains(entry.path) && !opened.contains(entry.path) {
            let place = Session.root + entry.path.map { "/" + $0 }.joined()
            switch entry.content {
            case .directory(let mode): try Session.makeDirectory(place, mode: mode_t(mode | 0o700))
            case .file(let bytes): try Session.writeFile(place, bytes)
            }
        }
        let tree = try DetachedMount(copyOf: Session.root, recursive: true)
        try tree.restrict([.readOnly, .noSuid, .noDev], recursive: false)
        try tree.attach(to: Session.root)
    }

    private func show(_ path: [String], as place: String) throws(SystemError) {
        let source = Session.image + path.map { "/" + $0 }.joined()
        guard let status = Files.status(source, followLinks: false) else { return }
        switch status.st_mode & S_IFMT {
        case S_IFLNK:
            guard let target = Files.readLink(source), symlink(target, place) == 0 else { throw .last("link \(place)") }
            return
        case S_IFDIR: try Session.makeDirectory(place, mode: 0o755)
        default: try Session.writeFile(place, [])
        }
        // The last name is no link, and the directories before it are the image's own, looked up without links.
        let tree = try DetachedMount(copyOf: source, recursive: false)
        try tree.attach(to: place)
    }
}
