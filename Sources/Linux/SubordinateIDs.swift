import CLinux
import Glibc

/// Ids that an administrator has given to a user for containers (subuid(5), subgid(5)).
public struct SubordinateIDs: Sendable, Equatable {
    public struct Range: Sendable, Equatable {
        public var start: UInt32
        public var count: UInt32
    }

    public var users: [Range]
    public var groups: [Range]

    /// The ranges of a user; nil where there are none, or no program to apply them.
    public static func of(user: String, uid: UInt32) -> SubordinateIDs? {
        let users = ranges("/etc/subuid", user, uid)
        let groups = ranges("/etc/subgid", user, uid)
        guard !users.isEmpty, !groups.isEmpty, SystemProgram.find("newuidmap") != nil, SystemProgram.find("newgidmap") != nil else {
            return nil
        }
        return SubordinateIDs(users: users, groups: groups)
    }

    private static func ranges(_ path: String, _ user: String, _ uid: UInt32) -> [Range] {
        guard let text = try? Files.readText(path) else { return [] }
        return text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: ":")
            guard fields.count == 3, fields[0] == user || fields[0] == "\(uid)", let start = UInt32(fields[1]),
                let count = UInt32(fields[2]), count > 0
            else { return nil }
            return Range(start: start, count: count)
        }
    }

    /// Ids that exist in a user namespace with these ranges, counted from 0.
    public static func count(_ ranges: [Range]) -> UInt32 { ranges.reduce(1) { $0 &+ $1.count } }

    /// Lines of an id map, "inside outside count": root is the caller, the others follow from 1.
    public static func map(_ ranges: [Range], caller: UInt32) -> [String] {
        var out = ["0 \(caller) 1"]
        var next: UInt32 = 1
        for range in ranges {
            out.append("\(next) \(range.start) \(range.count)")
            next += range.count
        }
        return out
    }
}

extension UserNamespace {
    /// Moves this process into a new one in which the caller is root and other ids are the subordinate ones. Only for a
    /// process with one thread.
    public static func enter(asRootWith ids: SubordinateIDs) throws(SystemError) {
        guard let userHelper = SystemProgram.find("newuidmap"), let groupHelper = SystemProgram.find("newgidmap") else {
            throw SystemError("find newuidmap and newgidmap (Debian's package uidmap)", errno: ENOENT)
        }
        let uid = getuid()
        let gid = getgid()
        let target = String(getpid())
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
        let ready = OwnedDescriptor(ends[1])
        let waiting = ends[0]
        // The maps are written from outside, by programs that may do so.
        let child = try Process.fork {
            close(ends[1])
            var byte: UInt8 = 0
            guard retryingOnInterrupt({ read(waiting, &byte, 1) }) == 1 else { _exit(1) }
            func words(_ line: String) -> [String] { line.split(separator: " ").map(String.init) }
            let maps = [
                [userHelper, target] + SubordinateIDs.map(ids.users, caller: uid).flatMap(words),
                [groupHelper, target] + SubordinateIDs.map(ids.groups, caller: gid).flatMap(words),
            ]
            for words in maps {
                let result = try? ChildProcess.run(words)
                if result?.status != 0 { _exit(1) }
            }
            _exit(0)
        }
        close(waiting)
        try Namespaces.user.unshare()
        try Files.writeAll([1], to: ready.rawValue, name: "pipe")
        guard Process.wait(for: child) == 0 else {
            throw SystemError("map the subordinate ids of /etc/subuid and /etc/subgid with newuidmap and newgidmap", errno: EPERM)
        }
        guard setgid(0) == 0, setuid(0) == 0 else { throw .last("become root of the user namespace") }
    }

    /// Moves this process into a new one in which the caller is root and nobody else exists.
    public static func enterAsRoot() throws(SystemError) {
        let uid = getuid()
        let gid = getgid()
        try Namespaces.user.unshare()
        try writeMaps(inside: (0, 0), outside: (uid, gid))
    }
}
