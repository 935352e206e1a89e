import CLinux
import Glibc
import Linux
import Messages
import SquashFS

/// A process that holds the mount of an image for all containers of a user and job, and leaves a moment after the last
/// of them.
///
/// It reads nothing of the image and nothing that containers could send but descriptors; the server is a child of its
/// own, without rights. Containers that outlive it keep their files: the mount is theirs as well, and the server ends with
/// the last one.
struct ImageKeeper {
    let path: String
    let image: SquashFSImage
    let file: CInt
    let offset: UInt64
    let size: UInt64
    let identity: RunIdentity
    let warmUp: [String]
    let log: Log

    /// Milliseconds that it stays after the last container, for the next one.
    private static let linger: CInt = 3000

    /// - Parameter listening: a socket bound to ``path``.
    func start(_ listening: CInt) throws(SystemError) { try KeeperProcess.start { keep(listening) } }

    private func keep(_ listening: CInt) -> Never {
        KeeperProcess.begin("singularity-own", for: image.name)
        let place = KeeperSocket.Place(path)
        do {
            let (server, namespace) = try mount(keeping: place.descriptors.union([listening]))
            try CapabilitySet.systemAdministration.apply()
            try Process.forbidNewPrivileges()
            Process.forbidInspection()
            serve(listening, server, namespace, place)
        } catch {
            // Who waits is told by the end of the connection, and mounts the image for himself.
            place.clear()
            _exit(1)
        }
    }

    /// Mounts the image in a mount namespace that holds nothing else.
    /// - Returns: the server, and the open user namespace; -1 where there is none.
    private func mount(keeping descriptors: Set<CInt>) throws -> (server: pid_t, namespace: CInt) {
        try identity.enter()
        // There is no /proc afterwards.
        let namespace = identity.isUserNamespace ? open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC) : -1
        let means: RootMount.Means
        var server: pid_t = -1
        if identity == .host, let loop = LoopDevice.means(file, offset, size, log) {
            means = loop
        } else {
            let forked = try ImageServer.fork(
                image, file: file,
                ImageServer.Settings(
                    ownership: identity.ownership, threads: min(8, MachineLimits.processors), seesClients: true, isOrphan: false,
                    warmUp: warmUp))
            server = forked.ownChild ?? -1
            means = .server(forked)
        }
        try Namespaces.mount.unshare()
        try Mounting.isolatePropagation()
        _ = try Session(isUserNamespace: identity.isUserNamespace)
        try RootMount.mount(means, nil, uid: getuid(), gid: getgid())
        try Mounting.pivotToWorkingDirectory()
        Process.closeDescriptors(except: descriptors.union([namespace]))
        return (server, namespace)
    }

    private func serve(_ listening: CInt, _ server: pid_t, _ namespace: CInt, _ place: KeeperSocket.Place) -> Never {
        var limit = rlimit()
        // One descriptor a container.
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            limit.rlim_cur = limit.rlim_max
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        let readable = Int16(POLLIN)
        var watched = [
            pollfd(fd: listening, events: readable, revents: 0),
            pollfd(fd: server < 0 ? -1 : clinux_pidfd_open(server), events: readable, revents: 0),
        ]
        var isNamed = true
        while true {
            let isIdle = watched.count == 2
            let count = poll(&watched, nfds_t(watched.count), isIdle ? (isNamed ? Self.linger : 0) : -1)
            if count < 0 { continue }
            if count == 0 && isIdle {
                // Who has connected in this moment is served still.
                if !isNamed { _exit(0) }
                place.clear()
                isNamed = false
                continue
            }
            if watched[1].revents != 0 {
                if isNamed { place.clear() }
                _exit(0)
            }
            for index in stride(from: watched.count - 1, through: 2, by: -1) where watched[index].revents != 0 {
                close(watched[index].fd)
                watched.remove(at: index)
            }
            if watched[0].revents != 0, let client = answer(listening, namespace) {
                watched.append(pollfd(fd: client, events: readable, revents: 0))
            }
        }
    }

    /// - Returns: what tells when the container has ended.
    private func answer(_ listening: CInt, _ namespace: CInt) -> CInt? {
        guard let socket = KeeperSocket.accept(listening), let client = KeeperSocket.introduction(from: socket.rawValue) else { return nil }
        guard let tree = try? DetachedMount(copyOf: "/" + Session.image, recursive: false) else { return nil }
        let descriptors = namespace < 0 ? [tree.descriptor] : [tree.descriptor, namespace]
        guard clinux_send_descriptors(socket.rawValue, descriptors, CInt(descriptors.count)) == 0 else { return nil }
        return client.release()
    }
}
