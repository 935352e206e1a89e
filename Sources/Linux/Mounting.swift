import CLinux
import Glibc

/// Flags of mount(2).
public struct MountFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static let readOnly = MountFlags(rawValue: clinux_ms_rdonly)
    public static let noSuid = MountFlags(rawValue: clinux_ms_nosuid)
    public static let noDev = MountFlags(rawValue: clinux_ms_nodev)
    public static let noExec = MountFlags(rawValue: clinux_ms_noexec)
    static let recursive = MountFlags(rawValue: clinux_ms_rec)
    static let slavePropagation = MountFlags(rawValue: clinux_ms_slave)
    static let privatePropagation = MountFlags(rawValue: clinux_ms_private)
}

/// Changes of the mount namespace that this process is in.
public enum Mounting {
    /// Mounts a file system.
    public static func mount(
        _ type: String, source: String = "none", on target: String, flags: MountFlags = [], options: String = ""
    ) throws(SystemError) {
        guard CLinux.mount(source, target, type, UInt(flags.rawValue), options) == 0 else {
            throw .last("mount \(type) on \(target)")
        }
    }

    /// Nothing that is mounted here from now on shows elsewhere.
    /// - Parameter follows: what is mounted elsewhere later shows here.
    public static func isolatePropagation(follows: Bool = true) throws(SystemError) {
        let flags: MountFlags = [.recursive, follows ? .slavePropagation : .privatePropagation]
        guard CLinux.mount(nil, "/", nil, UInt(flags.rawValue), nil) == 0 else { throw .last("make / a slave mount") }
    }

    /// Makes the current directory the root and takes the old root out of sight, see pivot_root(2), "pivot_root(".", ".")".
    public static func pivotToWorkingDirectory() throws(SystemError) {
        guard clinux_pivot_root(".", ".") == 0 else { throw .last("pivot_root") }
        guard umount2(".", CInt(MNT_DETACH)) == 0 else { throw .last("unmount the host's root") }
        guard chdir("/") == 0 else { throw .last("chdir /") }
    }
}

/// Kinds of namespaces, see namespaces(7).
public struct Namespaces: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static let user = Namespaces(rawValue: clinux_clone_newuser)
    public static let mount = Namespaces(rawValue: clinux_clone_newns)
    public static let pid = Namespaces(rawValue: clinux_clone_newpid)
    public static let ipc = Namespaces(rawValue: clinux_clone_newipc)
    public static let uts = Namespaces(rawValue: clinux_clone_newuts)
    public static let network = Namespaces(rawValue: clinux_clone_newnet)

    /// Names for people, in a fixed order.
    public var names: [String] {
        [(Namespaces.user, "user"), (.mount, "mount"), (.pid, "pid"), (.ipc, "ipc"), (.uts, "uts"), (.network, "net")]
            .filter { contains($0.0) }.map(\.1)
    }

    /// Moves this process into new ones.
    public func unshare() throws(SystemError) {
        guard clinux_unshare(rawValue) == 0 else { throw .last("unshare \(names.joined(separator: ", "))") }
    }
}
