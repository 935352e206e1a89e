import CLinux
import Glibc
import Linux
import Messages
import SquashFS

/// An image that is mounted once for all containers of a user and job: the side of a container.
///
/// The mount belongs to an ``ImageKeeper``, which gives a copy of it and its user namespace to whoever asks. Containers
/// of one job are thus in one user namespace, so that their processes may read each other's memory as MPI libraries do.
struct SharedImage: ~Copyable {
    private let socket: OwnedDescriptor

    private init(_ socket: consuming OwnedDescriptor) { self.socket = socket }

    /// What an image is mounted as; equal things can share a mount.
    private struct Key {
        var text: String

        var name: String { KeeperSocket.name(for: text) }

        init(_ file: CInt, _ offset: UInt64, _ identity: RunIdentity) throws(SystemError) {
            let status = try Files.status(file, name: "image")
            let file = "\(status.st_dev):\(status.st_ino):\(status.st_size):\(offset)"
            let times = "\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec) \(status.st_ctim.tv_sec).\(status.st_ctim.tv_nsec)"
            text = "\(file) \(times) \(identity.key) \(Files.readLink("/proc/self/ns/user") ?? "") \(JobScope.text)"
        }
    }

    /// Asks for the mount; a keeper is started where there is none. Nil where mounts cannot be shared here.
    /// - Parameter warmUp: what a new server decodes first.
    static func request(
        _ image: SquashFSImage, file: CInt, offset: UInt64, size: UInt64, _ identity: RunIdentity, warmUp: [String], _ log: Log
    ) -> SharedImage? {
        guard let folder = RuntimeFolder.prepare(), let key = try? Key(file, offset, identity) else { return nil }
        let path = "\(folder)/\(key.name)"
        let socket = KeeperSocket.connect(path) { listening in
            let keeper = ImageKeeper(
                path: path, image: image, file: file, offset: offset, size: size, identity: identity, warmUp: warmUp, log: log)
            try keeper.start(listening)
        }
        guard let socket, KeeperSocket.introduce(to: socket.rawValue) else { return nil }
        return SharedImage(socket)
    }

    /// Milliseconds that a keeper has to answer: it may be new, on a busy machine, and one of hundreds may be first.
    private static let patience: CInt = 20_000

    /// Enters the keeper's user namespace and takes the mount. Only for a process with one thread.
    /// - Returns: nil where the keeper gives none; nothing has changed then.
    consuming func receive(_ identity: RunIdentity) -> DetachedMount? {
        _ = clinux_set_receive_timeout(socket.rawValue, Self.patience)
        var received: [CInt] = [-1, -1]
        let count = clinux_receive_descriptors(socket.rawValue, &received, 2)
        guard count >= 1 else { return nil }
        let tree = OwnedDescriptor(received[0])
        if identity.isUserNamespace {
            guard count == 2 else { return nil }
            let namespace = OwnedDescriptor(received[1])
            guard clinux_setns(namespace.rawValue, CInt(truncatingIfNeeded: Namespaces.user.rawValue)) == 0 else { return nil }
        } else if count == 2 {
            close(received[1])
        }
        return DetachedMount(tree)
    }
}
