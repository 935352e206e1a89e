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

    /// Starts it as nobody's child.
    /// - Parameter listening: a socket bound to ``path``.
    func start(_ listening: CInt) throws(SystemError) {
        let child = try Process.fork {
            let keeper = clinux_fork()
            if keeper == 0 { keep(listening) }
            _exit(keeper < 0 ? 1 : 0)
        }
        guard Process.wait(for: child) == 0 else { throw SystemError("fork the image's keeper", errno: EAGAIN) }
    }

    /// Where the socket has its name. Opened while the host's tree is in reach, to take the name away later.
    private struct Place {
        let parent: CInt
        let folder: CInt
        let folderName: String
        let name: String

        init(_ path: String) {
            let parts = path.split(separator: "/").map(String.init)
            name = parts.last ?? ""
            folderName = parts.dropLast().last ?? ""
            let above = "/" + parts.dropLast(2).joined(separator: "/")
            parent = open(above, O_PATH_FLAG | O_DIRECTORY | O_CLOEXEC)
            folder = open(above + "/" + folderName, O_PATH_FLAG | O_DIRECTORY | O_CLOEXEC)
        }

        /// Takes the name away, and the directory where it was the last.
        func clear() {
            unlinkat(folder, name, 0)
            unlinkat(parent, folderName, AT_REMOVEDIR)
        }
    }

    private func keep(_ listening: CInt) -> Never {
        // Signals of a terminal or of job control are meant for the programs, which still need their files.
        setsid()
        for number in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP] { signal(number, SIG_IGN) }
        var none = sigset_t()
        sigemptyset(&none)
        sigprocmask(SIG_SETMASK, &none, nil)
        Process.setName("singularity-own")
        clinux_set_title(CommandLine.unsafeArgv, "singularity-own \(image.name)")
        let null = open("/dev/null", O_RDWR)
        for standard in 0...2 as ClosedRange<CInt> { dup2(null, standard) }
        let place = Place(path)
        do {
            let (server, namespace) = try mount(keeping: [listening, place.folder, place.parent])
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

    private func serve(_ listening: CInt, _ server: pid_t, _ namespace: CInt, _ place: Place) -> Never {
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
        let raw = clinux_accept(listening)
        guard raw >= 0 else { return nil }
        let socket = OwnedDescriptor(raw)
        var uid: UInt32 = 0
        guard clinux_peer_uid(raw, &uid) == 0, uid == getuid() else { return nil }
        // One that says nothing must not keep the others waiting.
        _ = clinux_set_receive_timeout(raw, 500)
        var received: [CInt] = [-1]
        guard clinux_receive_descriptors(raw, &received, 1) == 1 else { return nil }
        let client = OwnedDescriptor(received[0])
        guard let tree = try? DetachedMount(copyOf: "/" + Session.image, recursive: false) else { return nil }
        let descriptors = namespace < 0 ? [tree.descriptor] : [tree.descriptor, namespace]
        guard clinux_send_descriptors(socket.rawValue, descriptors, CInt(descriptors.count)) == 0 else { return nil }
        return client.release()
    }
}
