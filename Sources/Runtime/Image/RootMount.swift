import CLinux
import FUSEServer
import Glibc
import Linux
import Messages
import SquashFS

/// Makes an image's files appear in the session.
///
/// The means are chosen before the mount namespace is entered, as a server must stay outside of it.
enum RootMount {
    /// How the image's files get there.
    enum Means: ~Copyable {
        case directory(CInt, path: String)
        case loop(OwnedDescriptor, number: CInt)
        case server(ImageServer)
        /// One that is mounted already.
        case tree(DetachedMount)

        /// An open directory and its path.
        var directory: (descriptor: CInt, path: String)? {
            switch self {
            case .directory(let descriptor, let path): (descriptor, path)
            default: nil
            }
        }

        /// The process that serves, where it is a child of this one.
        var server: pid_t? {
            switch self {
            case .server(let server): server.ownChild
            default: nil
            }
        }
    }

    /// The tree of a directory, made while the session covers nothing of the host yet. Nil for other means.
    /// - Parameter isWritable: the files can be changed.
    static func tree(_ means: borrowing Means, isWritable: Bool, allowsSetuid: Bool = false) throws(SystemError) -> DetachedMount? {
        guard let (descriptor, path) = means.directory else { return nil }
        // The open directory belongs to the mount namespace that was left; the path must still lead to it.
        let opened = try Files.status(descriptor, name: path)
        guard let found = Files.status(path), found.st_dev == opened.st_dev, found.st_ino == opened.st_ino else {
            throw SystemError("find \(path) again, which was replaced just now", errno: ESTALE)
        }
        let tree = try DetachedMount(copyOf: path, recursive: true)
        var restrictions: DetachedMount.Attributes = allowsSetuid ? [.noDev] : [.noSuid, .noDev]
        if !isWritable { restrictions.insert(.readOnly) }
        try tree.restrict(restrictions, recursive: true)
        return tree
    }

    /// Mounts the image on a directory of the session.
    static func mount(
        _ means: consuming Means, _ tree: consuming DetachedMount?, on place: String = Session.image, uid: UInt32, gid: UInt32,
        allowsSetuid: Bool = false
    ) throws(SystemError) {
        let flags: MountFlags = allowsSetuid ? [.readOnly, .noDev] : [.readOnly, .noSuid, .noDev]
        if let tree { return try tree.attach(to: place) }
        switch consume means {
        case .directory: break
        case .tree(let tree): try tree.attach(to: place)
        case .loop(let device, let number):
            // The open device keeps itself from being cleared until it is mounted.
            _ = device.rawValue
            try Mounting.mount(
                "squashfs", source: "/dev/loop\(number)", on: place, flags: flags)
        case .server(let server):
            let options =
                "fd=\(server.device.rawValue),rootmode=40000,user_id=\(uid),group_id=\(gid),allow_other,default_permissions,max_read=\(1 << 20)"
            try Mounting.mount(
                "fuse", source: "singularity", on: place, flags: flags, options: options)
            // This process's copy of the device is closed: a server that dies must not leave readers waiting.
            try server.begin()
        }
    }
}
