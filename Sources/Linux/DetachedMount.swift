import CLinux
import Glibc

/// A tree of mounts that is attached nowhere yet. It can be made while the host's files are in reach, and attached when
/// only the container's are. See open_tree(2), fsmount(2), move_mount(2); Linux 5.12 or newer.
public struct DetachedMount: ~Copyable {
    private let tree: OwnedDescriptor

    /// Restrictions of mount_setattr(2).
    public struct Attributes: OptionSet, Sendable, Equatable {
        public let rawValue: UInt64
        public init(rawValue: UInt64) { self.rawValue = rawValue }

        public static let readOnly = Attributes(rawValue: clinux_mount_attr_rdonly)
        public static let noSuid = Attributes(rawValue: clinux_mount_attr_nosuid)
        public static let noDev = Attributes(rawValue: clinux_mount_attr_nodev)
        public static let noExec = Attributes(rawValue: clinux_mount_attr_noexec)
    }

    /// One that another process has made.
    public init(_ tree: consuming OwnedDescriptor) { self.tree = tree }

    /// Valid as long as this value lives.
    public var descriptor: CInt { tree.rawValue }

    /// A copy of what an open file or directory is.
    public init(copyOf descriptor: CInt, recursive: Bool) throws(SystemError) {
        try self.init(copyOf: "/proc/self/fd/\(descriptor)", recursive: recursive)
    }

    /// A copy of what is seen at a path.
    /// - Parameter recursive: with what is mounted below it.
    public init(copyOf path: String, recursive: Bool) throws(SystemError) {
        let raw = clinux_open_tree(path, recursive ? 1 : 0)
        guard raw >= 0 else { throw .last("bind \(path)") }
        tree = OwnedDescriptor(raw)
    }

    /// A file system without options.
    /// - Parameter source: its device, where it has one. If that is mounted already, it is the same file system.
    public init(_ type: String, source: String? = nil, _ attributes: Attributes) throws(SystemError) {
        let raw = clinux_new_mount(type, source, attributes.rawValue)
        guard raw >= 0 else { throw .last("mount \(type)") }
        tree = OwnedDescriptor(raw)
    }

    /// Its directory, which can be read.
    public func openDirectory() throws(SystemError) -> OwnedDescriptor {
        try .open("/proc/self/fd/\(tree.rawValue)")
    }

    /// Adds restrictions; none is ever taken away.
    public func restrict(_ attributes: Attributes, recursive: Bool) throws(SystemError) {
        guard clinux_mount_setattr(tree.rawValue, attributes.rawValue, recursive ? 1 : 0) == 0 else {
            throw .last("restrict a mount")
        }
    }

    /// Attaches the tree at a path of the present root directory.
    public func attach(to target: String) throws(SystemError) {
        guard clinux_move_mount(tree.rawValue, target) == 0 else { throw .last("mount on \(target)") }
    }
}

extension DetachedMount {
    /// A new /proc, of the PID namespace of this process.
    public static func ofProcesses() throws(SystemError) -> DetachedMount { try DetachedMount("proc", [.noSuid, .noDev, .noExec]) }

    /// Tries whether a new PID namespace may have a /proc of its own. Only for a child, which has entered its other namespaces
    /// and then ends.
    /// - Returns: an errno value or 0.
    public static func trialOfProc() -> CInt {
        do throws(SystemError) {
            try Namespaces.pid.unshare()
            // Only a process in it can mount it.
            let inner = try Process.fork {
                do throws(SystemError) {
                    _ = try ofProcesses()
                    _exit(0)
                } catch { _exit(error.errno) }
            }
            return Process.exitCode(Process.wait(for: inner))
        } catch { return error.errno }
    }
}
