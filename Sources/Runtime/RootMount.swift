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
    static func tree(_ means: borrowing Means, isWritable: Bool) throws(SystemError) -> DetachedMount? {
        guard let (descriptor, path) = means.directory else { return nil }
        // The open directory belongs to the mount namespace that was left; the path must still lead to it.
        let opened = try Files.status(descriptor, name: path)
        guard let found = Files.status(path), found.st_dev == opened.st_dev, found.st_ino == opened.st_ino else {
            throw SystemError("find \(path) again, which was replaced just now", errno: ESTALE)
        }
        let tree = try DetachedMount(copyOf: path, recursive: true)
        try tree.restrict(isWritable ? [.noSuid, .noDev] : [.noSuid, .noDev, .readOnly], recursive: true)
        return tree
    }

    /// Mounts the image on a directory of the session.
    static func mount(
        _ means: consuming Means, _ tree: consuming DetachedMount?, on place: String = Session.image, uid: UInt32, gid: UInt32
    ) throws(SystemError) {
        if let tree { return try tree.attach(to: place) }
        switch consume means {
        case .directory: break
        case .loop(let device, let number):
            // The open device keeps itself from being cleared until it is mounted.
            _ = device.rawValue
            try Mounting.mount(
                "squashfs", source: "/dev/loop\(number)", on: place, flags: [.readOnly, .noSuid, .noDev])
        case .server(let server):
            let options =
                "fd=\(server.device.rawValue),rootmode=40000,user_id=\(uid),group_id=\(gid),allow_other,default_permissions,max_read=\(1 << 20)"
            try Mounting.mount(
                "fuse", source: "singularity", on: place, flags: [.readOnly, .noSuid, .noDev], options: options)
            // This process's copy of the device is closed: a server that dies must not leave readers waiting.
            try server.begin()
        }
    }
}
