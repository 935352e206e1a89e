import CLinux
import Glibc
import Linux

/// A small /dev: harmless devices, terminals and shared memory of its own.
struct DeviceFolder {
    /// The container has message queues of its own.
    var hasIPC: Bool
    /// In a user namespace the group of terminals does not exist.
    var isUserNamespace: Bool
    /// New terminals can be made.
    var hasTerminals = true
    /// Further device files of the host, or directories of them.
    var others: [String] = []

    private static let nodes = ["null", "zero", "random", "urandom", "tty"]
    private static let links = [
        ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
        ("ptmx", "/dev/pts/ptmx"),
    ]
    /// The group `tty` of Debian and most others.
    private static let terminalGroup = 5

    /// Fills a directory.
    func make(in folder: String) throws(SystemError) {
        for name in Self.nodes { try show("/dev/\(name)", as: "\(folder)/\(name)") }
        for path in others {
            let name =
                path.range(of: "/dev/").map { String(path[$0.upperBound...]) } ?? path.split(separator: "/").last.map(String.init) ?? ""
            guard !name.isEmpty, Files.status("\(folder)/\(name)") == nil else { continue }
            var place = folder
            for part in name.split(separator: "/").dropLast() {
                place += "/" + part
                try Session.makeDirectory(place, mode: 0o755)
            }
            try show(path, as: "\(folder)/\(name)")
        }
        for (name, target) in Self.links {
            guard symlink(target, "\(folder)/\(name)") == 0 else { throw .last("link \(folder)/\(name)") }
        }
        try Session.makeDirectory(folder + "/shm", mode: 0o755)
        try Mounting.mount("tmpfs", source: "tmpfs", on: folder + "/shm", flags: [.noSuid, .noDev], options: "mode=1777")
        if hasIPC {
            try Session.makeDirectory(folder + "/mqueue", mode: 0o755)
            try Mounting.mount("mqueue", source: "mqueue", on: folder + "/mqueue", flags: [.noSuid, .noDev, .noExec])
        }
        if !hasTerminals { return }
        try Session.makeDirectory(folder + "/pts", mode: 0o755)
        let group = isUserNamespace ? "" : ",gid=\(Self.terminalGroup)"
        // Some hosts refuse a devpts of one's own; a program without new terminals still runs.
        try? Mounting.mount(
            "devpts", source: "devpts", on: folder + "/pts", flags: [.noSuid, .noExec],
            options: "newinstance,ptmxmode=0666,mode=0620" + group)
        if let terminal = Self.terminal { try? show(terminal, as: folder + "/console") }
    }

    private func show(_ source: String, as target: String) throws(SystemError) {
        if Files.isDirectory(source) {
            try Session.makeDirectory(target, mode: 0o755)
        } else {
            try Session.writeFile(target, [])
        }
        let node = try DetachedMount(copyOf: source, recursive: true)
        try node.attach(to: target)
    }

    /// The terminal on one of the standard descriptors: a program in the container finds its name as /dev/console.
    private static var terminal: String? {
        for descriptor in 0...2 as ClosedRange<CInt> where isatty(descriptor) != 0 {
            if let path = Files.readLink("/proc/self/fd/\(descriptor)"), path.hasPrefix("/dev/") { return path }
        }
        return nil
    }
}
