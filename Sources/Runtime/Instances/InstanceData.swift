import FUSEServer
import Glibc
import Linux
import Messages

/// Data containers of an instance that runs.
public struct InstanceData {
    private let record: InstanceRecord
    private let configuration: Configuration
    private let log: Log

    public init(_ record: InstanceRecord, _ configuration: Configuration, _ log: Log) {
        self.record = record
        self.configuration = configuration
        self.log = log
    }

    /// Mounts a data container. Only for a process with one thread, which can do nothing else afterwards.
    public func attach(_ spec: BindSpec, keys: ImageKeys = .none) throws {
        let instance = try InstanceProcess(record, uid: getuid())
        guard let path = Files.resolved(spec.source) else {
            throw RuntimeError.badImage(spec.source, why: SystemError.last("open").reason)
        }
        let file = try ImageFile.openData(path, keys: keys)
        // Servers have the ids of the instance, and everything else of the host.
        let isUser = instance.namespaces(of: .user) == .user
        try instance.join(instance.namespaces(of: .user))
        let ownership = isUser ? try Self.ownership() : .asStored
        let note = "the instance \(record.name) of user \(record.user)"
        if case .ext(let place) = file.content {
            let isReadOnly = spec.isReadOnly || access(path, W_OK) != 0
            if isReadOnly && !spec.isReadOnly { log.warning("\(path) cannot be written by this user: it is used read-only") }
            let mount = ExtMount(
                ownership: ownership, isInUserNamespace: isUser, allowsKernel: configuration.has("allow kernel extfs"), note: note, log: log
            )
            let tree = try mount.mount(place, isReadOnly: isReadOnly)
            try enter(instance, spec.destination)
            try tree.attach(to: spec.destination)
            return
        }
        guard case .squashFS(let image, let descriptor, _, _) = file.content else {
            throw RuntimeError.badImage(path, why: "it is not a data container")
        }
        let server = try ImageServer.fork(
            image, file: descriptor.rawValue,
            ImageServer.Settings(
                ownership: ownership, threads: min(8, MachineLimits.processors), seesClients: false, isOrphan: true, warmUp: []))
        try enter(instance, spec.destination)
        try RootMount.mount(.server(server), nil, on: spec.destination, uid: getuid(), gid: getgid())
    }

    /// Enters the container and makes the directory, where that can be done.
    private func enter(_ instance: borrowing InstanceProcess, _ destination: String) throws {
        try instance.join(instance.namespaces(of: .mount))
        guard !Files.isDirectory(destination) else { return }
        do { try Files.makeDirectories(destination, mode: 0o755) } catch {
            throw RuntimeError.badOption(
                "\(destination) is not there in the instance \(record.name), whose files cannot be changed: choose a directory that is there, or start the instance with --writable-tmpfs"
            )
        }
    }

    /// Takes a data container away.
    /// - Parameter isForced: also while programs use it, which can go on with the files that they have open.
    public func detach(_ destination: String, isForced: Bool) throws {
        let instance = try InstanceProcess(record, uid: getuid())
        guard let source = try source(of: destination) else {
            throw RuntimeError.badOption("no data container is mounted at \(destination) in the instance \(record.name)")
        }
        let child = try Process.fork {
            do {
                try instance.join(instance.namespaces(of: [.user, .mount]))
                let noFollow: CInt = 8
                guard umount2(destination, (isForced ? CInt(MNT_DETACH) : 0) | noFollow) == 0 else { _exit(errno == EBUSY ? 2 : 1) }
                _exit(0)
            } catch {
                log.fatal("\(error)")
                _exit(1)
            }
        }
        switch Process.exitCode(Process.wait(for: child)) {
        case 0: break
        case 2:
            throw RuntimeError.badOption(
                "\(destination) is used by programs of the instance \(record.name): end them first, or take it away from them with --force")
        default: throw RuntimeError.badOption("\(destination) could not be unmounted in the instance \(record.name)")
        }
        guard source.hasPrefix("/"), !isForced else { return }
        // The file can be copied when this returns. Its server must not take this process for one that copies it already: it is not
        // opened as long as there is a lease to look at.
        for _ in 0..<3000 where Lease.holder(ImageLease.path(of: source))?.isAlive == true { usleep(10_000) }
        guard let file = try? OwnedDescriptor.open(source, O_RDONLY) else { return }
        for _ in 0..<3000 where flock(file.rawValue, LOCK_SH | LOCK_NB) != 0 { usleep(10_000) }
    }

    /// The file that a data container at a directory is, from proc_pid_mountinfo(5); nil where something else is mounted.
    private func source(of destination: String) throws -> String? {
        let text = try Files.readText("/proc/\(record.pid)/mountinfo", limit: 1 << 22)
        var found: String?
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count > 6, OctalEscapes.decoded(String(words[4])) == destination, let dash = words.firstIndex(of: "-"),
                dash + 2 < words.count
            else { continue }
            let (type, source) = (words[dash + 1], OctalEscapes.decoded(String(words[dash + 2])))
            // The last one hides the others.
            switch type {
            case "fuse", "ext4": found = source
            default: found = nil
            }
        }
        return found
    }

    /// Whose ids exist in the user namespace that was joined, from user_namespaces(7).
    private static func ownership() throws -> Ownership {
        func ids(_ file: String) throws -> (first: UInt32, count: UInt32) {
            let lines = try Files.readText("/proc/thread-self/\(file)").split(separator: "\n").map {
                $0.split(separator: " ").compactMap { UInt32($0) }
            }
            let ranges = lines.filter { $0.count == 3 }
            return (ranges.first?[0] ?? 0, ranges.map { $0[0] + $0[2] }.max().map { $0 - (ranges.first?[0] ?? 0) } ?? 1)
        }
        let (users, groups) = (try ids("uid_map"), try ids("gid_map"))
        if users.count == 1 { return .single(uid: users.first, gid: groups.first) }
        return .within(users: users.count, groups: groups.count)
    }
}
