import CLinux
import Glibc

/// A user namespace in which the caller is itself and nobody else exists, see user_namespaces(7).
public enum UserNamespace {
    /// Moves this process into a new one, in which it may mount. Only for a process with one thread.
    public static func enter(uid: UInt32, gid: UInt32) throws(SystemError) {
        try enter(inside: (uid, gid))
    }

    /// Moves this process into a new one in which the caller has other ids. Only for a process with one thread.
    public static func enter(inside: (uid: UInt32, gid: UInt32)) throws(SystemError) {
        let outside = (getuid(), getgid())
        try Namespaces.user.unshare()
        try writeMaps(inside: inside, outside: outside)
    }

    /// Whether this process may make one; tried in a child.
    public static var isAvailable: Bool {
        let child = try? Process.fork {
            do throws(SystemError) {
                try enter(inside: (0, 0))
                _exit(0)
            } catch { _exit(1) }
        }
        return child.map { Process.wait(for: $0) == 0 } ?? false
    }

    static func writeMaps(inside: (uid: UInt32, gid: UInt32), outside: (uid: UInt32, gid: UInt32)) throws(SystemError) {
        // An unprivileged process may map its own group only where it has given up changing its list of groups.
        try write("deny", "/proc/self/setgroups")
        try write("\(inside.uid) \(outside.uid) 1\n", "/proc/self/uid_map")
        try write("\(inside.gid) \(outside.gid) 1\n", "/proc/self/gid_map")
    }

    private static func write(_ text: String, _ path: String) throws(SystemError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY)
        try Files.writeAll(Array(text.utf8), to: file.rawValue, name: path)
    }
}
