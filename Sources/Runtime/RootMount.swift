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
        case directory(CInt)
        case loop(OwnedDescriptor, number: CInt)
        case server(ImageServer)

        /// The process that serves, where it is a child of this one.
        var server: pid_t? {
            switch self {
            case .server(let server): server.ownChild
            default: nil
            }
        }
    }

    /// Mounts the image on the session's `image` directory.
    /// - Parameter isWritable: the image's files can be changed: only for directories.
    static func mount(_ means: consuming Means, isWritable: Bool, uid: UInt32, gid: UInt32) throws(SystemError) {
        switch consume means {
        case .directory(let descriptor):
            let tree = try DetachedMount(copyOf: "/proc/self/fd/\(descriptor)", recursive: true)
            try tree.restrict(isWritable ? [.noSuid, .noDev] : [.noSuid, .noDev, .readOnly], recursive: true)
            try tree.attach(to: Session.image)
        case .loop(let device, let number):
            // The open device keeps itself from being cleared until it is mounted.
            _ = device.rawValue
            try Mounting.mount(
                "squashfs", source: "/dev/loop\(number)", on: Session.image, flags: [.readOnly, .noSuid, .noDev])
        case .server(let server):
            let options =
                "fd=\(server.device.rawValue),rootmode=40000,user_id=\(uid),group_id=\(gid),allow_other,default_permissions,max_read=\(1 << 20)"
            try Mounting.mount(
                "fuse", source: "singularity", on: Session.image, flags: [.readOnly, .noSuid, .noDev], options: options)
            // This process's copy of the device is closed: a server that dies must not leave readers waiting.
            try server.begin()
        }
    }
}
