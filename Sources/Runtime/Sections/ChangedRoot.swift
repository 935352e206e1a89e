import CLinux
import Glibc
import Linux

/// Runs a section by chroot(2) alone, where root may make neither mounts nor namespaces: in a container of Docker with the
/// seccomp filter and the capabilities that it gives, as continuous integration often runs.
///
/// What mounts would show is put into the tree for as long as the section runs: devices, and the host's name service
/// files. There is no /proc and no --bind, and the script is held by nothing but the outer container.
final class ChangedRoot {
    /// The tree that is changed.
    private let tree: String
    private let directory: OwnedDescriptor
    /// Device files that were made: the folder, opened, and their names.
    private var devices: (folder: SharedDescriptor, names: [String])?
    /// Files whose content is another one meanwhile.
    private var files: [(path: String, content: [UInt8], times: [timespec])] = []
    /// What was in directories of temporary files.
    private var temporary: [String: Set<String>] = [:]

    /// Numbers of devices that every program may expect (Linux's admin-guide/devices.txt).
    private static let nodes: [(name: String, minor: UInt32)] = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)]

    /// Whether this process can have nothing better.
    static var isNeeded: Bool { getuid() == 0 && !CapabilitySet.effective.contains(.systemAdministration) }

    /// Makes the tree ready for a section.
    init(_ tree: String) throws(SystemError) {
        self.tree = tree
        directory = try OwnedDescriptor.open(tree, O_RDONLY | O_DIRECTORY)
        addDevices()
        for path in SectionRoot.nameServiceFiles { replaceContent(path) }
        for folder in ["tmp", "var/tmp"] { temporary[folder] = names(folder) }
        // What loses its parent comes to this process, which ends it.
        guard clinux_adopt_orphans() == 0 else { throw .last("adopt orphans") }
    }

    /// For a child of this process: sees the tree alone.
    func enter() throws(SystemError) {
        guard fchdir(directory.rawValue) == 0, chroot(".") == 0, chdir("/") == 0 else {
            throw .last("change the root directory to \(tree)")
        }
    }

    /// Ends what the section has left, and takes out of the tree what was put into it.
    func leave() {
        endOrphans()
        if let devices {
            for name in devices.names { unlinkat(devices.folder.rawValue, name, 0) }
        }
        for file in files {
            guard let descriptor = try? Files.open(inRoot: directory.rawValue, file.path, O_WRONLY | O_TRUNC) else { continue }
            try? Files.writeAll(file.content, to: descriptor.rawValue, name: file.path)
            futimens(descriptor.rawValue, file.times)
        }
        for (folder, before) in temporary {
            guard let place = try? path(folder) else { continue }
            for name in names(folder).subtracting(before) { Files.removeTree("\(place)/\(name)") }
        }
    }

    private func addDevices() {
        guard let opened = try? Files.open(inRoot: directory.rawValue, "dev", O_RDONLY | O_DIRECTORY) else { return }
        let folder = SharedDescriptor(opened)
        let made = Self.nodes.filter { node in
            let device = OwnerRecord.Device(isBlock: false, major: 1, minor: node.minor)
            return mknodat(folder.rawValue, node.name, S_IFCHR | 0o666, dev_t(device.number)) == 0
        }
        for node in made { fchmodat(folder.rawValue, node.name, 0o666, 0) }
        devices = (folder, made.map { $0.name })
    }

    /// Gives a file of the tree the content that it has on the host.
    private func replaceContent(_ path: String) {
        guard let content = try? Files.read(path, limit: 1 << 20),
            let file = try? Files.open(inRoot: directory.rawValue, path, O_RDWR | O_NONBLOCK),
            let status = try? Files.status(file.rawValue, name: path), status.st_mode & S_IFMT == S_IFREG,
            let old = try? Files.read(file, name: path, limit: 1 << 20)
        else { return }
        files.append((path, old, [status.st_atim, status.st_mtim]))
        guard ftruncate(file.rawValue, 0) == 0, lseek(file.rawValue, 0, SEEK_SET) == 0 else { return }
        try? Files.writeAll(content, to: file.rawValue, name: path)
    }

    /// Where a directory of the tree is on the host; links are followed inside the tree only.
    private func path(_ folder: String) throws(SystemError) -> String {
        let opened = try Files.open(inRoot: directory.rawValue, folder, O_PATH_FLAG | O_DIRECTORY)
        guard let path = Files.readLink("/proc/self/fd/\(opened.rawValue)") else { throw .last("find /\(folder) of the container") }
        return path
    }

    private func names(_ folder: String) -> Set<String> { Set(((try? path(folder)).flatMap { try? Files.entries($0) }) ?? []) }

    private func endOrphans() {
        while true {
            let children =
                (try? Files.readText("/proc/self/task/\(getpid())/children"))?.split(separator: " ").compactMap { pid_t($0) } ?? []
            if children.isEmpty { return }
            for child in children {
                kill(child, SIGKILL)
                _ = Process.wait(for: child)
            }
        }
    }
}
