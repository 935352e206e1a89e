import CLinux
import Glibc
import Linux

/// A process that gives each package that appears among a section's changes a second name.
///
/// Package managers, and scripts after them, remove what they have downloaded when it is installed. A second name keeps it until
/// the section has ended. What the section does to the tree meanwhile leads nowhere else: both directories were opened before it
/// began, and no link is followed.
final class PackageWatch {
    private let child: pid_t
    private let end: CInt
    /// What was taken: `number path` in each line.
    private let list: OwnedDescriptor

    /// - Parameters:
    ///   - upper: the section's changes.
    ///   - hold: a directory on the same file system, for the second names, which are numbers.
    init(_ upper: borrowing OwnedDescriptor, hold: borrowing OwnedDescriptor) throws(SystemError) {
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
        let (reader, writer) = (ends[0], ends[1])
        end = writer
        list = OwnedDescriptor(clinux_memfd("packages"))
        let (list, upper, hold) = (list.rawValue, upper.rawValue, hold.rawValue)
        guard list >= 0 else { throw .last("memfd_create") }
        child = try Process.fork {
            Process.dieWithParent()
            close(writer)
            Process.closeDescriptors(except: [reader, list, upper, hold])
            guard let watcher = Watcher(upper, hold) else { _exit(1) }
            watcher.watch(until: reader)
            let lines = watcher.taken.map { "\($0.value) \($0.key)\n" }.joined()
            try? Files.writeAll(Array(lines.utf8), to: list, name: "packages")
            _exit(0)
        }
        close(reader)
    }

    /// Takes what is there by now, and ends.
    /// - Returns: the second names of all packages, by their paths.
    func finish() -> [String: String] {
        close(end)
        Process.wait(for: child)
        lseek(list.rawValue, 0, SEEK_SET)
        let lines = String(decoding: (try? Files.read(list, name: "packages")) ?? [], as: UTF8.self).split(separator: "\n")
        let pairs = lines.map { $0.split(separator: " ", maxSplits: 1).map(String.init) }.filter { $0.count == 2 }
        return Dictionary(pairs.map { ($0[1], $0[0]) }) { one, _ in one }
    }

    /// What the process does.
    private final class Watcher {
        private let upper: CInt
        private let hold: CInt
        private let events: OwnedDescriptor
        /// Watched directories by the kernel's numbers for them.
        private var folders: [CInt: String] = [:]
        /// Second names by paths.
        private(set) var taken: [String: Int] = [:]
        private var count = 0

        init?(_ upper: CInt, _ hold: CInt) {
            let raw = inotify_init1(CInt(IN_CLOEXEC | IN_NONBLOCK))
            guard raw >= 0 else { return nil }
            events = OwnedDescriptor(raw)
            self.upper = upper
            self.hold = hold
        }

        func watch(until end: CInt) {
            look(into: "")
            var watched = [pollfd(fd: events.rawValue, events: Int16(POLLIN), revents: 0), pollfd(fd: end, events: 0, revents: 0)]
            while watched[1].revents == 0 {
                guard poll(&watched, 2, -1) >= 0 || errno == EINTR else { return }
                takeEvents()
            }
            look(into: "")
        }

        /// Watches a directory and those below it, and takes what is in them.
        private func look(into path: String) {
            guard let folder = try? open(path) else { return }
            let place = "/proc/self/fd/\(folder.rawValue)"
            let number = inotify_add_watch(events.rawValue, place, UInt32(IN_CREATE | IN_MOVED_TO | IN_ONLYDIR))
            if number >= 0 { folders[number] = path }
            for name in (try? Files.entries(place)) ?? [] { consider(name, in: folder, path) }
        }

        private func consider(_ name: String, in folder: borrowing OwnedDescriptor, _ path: String) {
            let full = path.isEmpty ? name : "\(path)/\(name)"
            let isPackage = PackagePlace.takes(full)
            guard isPackage || PackagePlace.leads(full) else { return }
            var status = stat()
            guard fstatat(folder.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return }
            switch status.st_mode & S_IFMT {
            case S_IFDIR: look(into: full)
            case S_IFREG where isPackage: take(name, in: folder, full)
            default: break
            }
        }

        /// The newest file of a path is kept.
        private func take(_ name: String, in folder: borrowing OwnedDescriptor, _ path: String) {
            guard !path.contains("\n") else { return }
            count += 1
            guard linkat(folder.rawValue, name, hold, "\(count)", 0) == 0 else { return }
            if let older = taken.updateValue(count, forKey: path) { unlinkat(hold, "\(older)", 0) }
        }

        private func takeEvents() {
            var buffer = [UInt8](repeating: 0, count: 64 << 10)
            while true {
                let count = read(events.rawValue, &buffer, buffer.count)
                guard count > 0 else { return }
                var position = 0
                // struct inotify_event of inotify(7): wd, mask, cookie, len, and the name with zeros behind it.
                while position + 16 <= count {
                    let (number, mask, length) = buffer.withUnsafeBytes {
                        (
                            $0.loadUnaligned(fromByteOffset: position, as: CInt.self),
                            $0.loadUnaligned(fromByteOffset: position + 4, as: UInt32.self),
                            Int($0.loadUnaligned(fromByteOffset: position + 12, as: UInt32.self))
                        )
                    }
                    let padded = buffer[(position + 16)..<min(position + 16 + length, count)]
                    let name = String(decoding: padded.prefix { $0 != 0 }, as: UTF8.self)
                    position += 16 + length
                    if mask & UInt32(IN_Q_OVERFLOW) != 0 { look(into: "") }
                    guard let path = folders[number], !name.isEmpty else { continue }
                    event(name, in: path)
                }
            }
        }

        private func event(_ name: String, in path: String) {
            if let folder = try? open(path) { consider(name, in: folder, path) }
        }

        private func open(_ path: String) throws(SystemError) -> OwnedDescriptor {
            try Files.open(beneath: upper, path.isEmpty ? "." : path, O_RDONLY | O_DIRECTORY)
        }
    }
}
