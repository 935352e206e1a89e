import Glibc
import Linux

/// The accounts that a program sees: those of the files in its own root directory, and for names and numbers that are not
/// in them, those of the host.
struct ContainerAccounts: ~Copyable {
    private let root: OwnedDescriptor

    /// Bytes of the largest file that is read.
    private static let largestFile = 16 << 20

    /// - Parameter process: which has asked.
    /// - Returns: nil where its root directory cannot be looked into.
    init?(of process: pid_t) {
        guard let root = try? OwnedDescriptor.open("/proc/\(process)/root", O_PATH_FLAG | O_DIRECTORY) else { return nil }
        self.root = root
    }

    private var users: [AccountLine] { lines("/etc/passwd").compactMap { AccountLine($0) } }
    private var groups: [GroupLine] { lines("/etc/group").compactMap { GroupLine($0) } }

    /// The lines of a file; none where there is no such file.
    private func lines(_ path: String) -> [Substring] {
        // What has the name may be a pipe that nobody writes into.
        guard let file = try? Files.open(inRoot: root.rawValue, path, O_RDONLY | O_NONBLOCK | O_NOCTTY),
            let status = try? Files.status(file.rawValue, name: path), status.st_mode & S_IFMT == S_IFREG,
            status.st_size <= Self.largestFile,
            let bytes = try? Files.read(file, name: path, limit: Self.largestFile)
        else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    }

    /// A group of the files. Of a group of the host, the files name the caller alone.
    private func group(_ line: GroupLine?) -> GroupLine? {
        guard var line, let host = HostAccounts.group(line.gid), host.name == line.name else { return line }
        line.members += host.members.filter { !line.members.contains($0) }
        return line
    }

    private func groupsOf(_ name: String) -> [UInt32] {
        let own = groups.filter { $0.members.contains(name) }.map(\.gid)
        return own + HostAccounts.groups(of: name).filter { !own.contains($0) }
    }

    func answer(_ question: AccountQuestion) -> AccountAnswer {
        switch question {
        case .userNamed(let name): AccountAnswer(user: users.first { $0.name == name } ?? HostAccounts.user(named: name))
        case .user(let id): AccountAnswer(user: users.first { $0.uid == id } ?? HostAccounts.user(id))
        case .groupNamed(let name): AccountAnswer(group: group(groups.first { $0.name == name }) ?? HostAccounts.group(named: name))
        case .group(let id): AccountAnswer(group: group(groups.first { $0.gid == id }) ?? HostAccounts.group(id))
        case .groupsOf(let name): AccountAnswer(groups: groupsOf(name))
        }
    }
}
