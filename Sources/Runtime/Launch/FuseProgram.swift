import CLinux
import Glibc
import Linux

/// A program of the host that serves a file system, such as fuse2fs.
///
/// It mounts in a mount namespace of its own, from which the mount is taken away as soon as a copy has been made: the
/// copy then is all that keeps the file system alive, and the program ends when the last container that has it ends.
enum FuseProgram {
    /// Milliseconds to wait for the mount.
    private static let patience = 20_000
    /// Where it may mount: a directory that nothing it needs is in.
    private static let places = ["/mnt", "/srv", "/media", "/opt", "/var/tmp", "/tmp"]

    /// Starts a program. Only for a process with one thread that may mount.
    /// - Parameters:
    ///   - words: the program and its arguments; `{}` stands for the mount point.
    ///   - path: a file that the program must see.
    static func mount(_ words: [String], needing path: String, _ attributes: DetachedMount.Attributes) throws -> DetachedMount {
        guard let place = places.first(where: { Files.isDirectory($0) && !LaunchPlanner.isPath(path, within: $0) }) else {
            throw SystemError("find a directory to mount on (tried \(places.joined(separator: ", ")))", errno: ENOENT)
        }
        var sockets: [CInt] = [0, 0]
        guard clinux_socket_pair(&sockets) == 0 else { throw SystemError.last("socketpair") }
        let errors = OwnedDescriptor(clinux_memfd("errors"))
        let mine = OwnedDescriptor(sockets[0])
        let arguments = words.map { $0 == "{}" ? place + "/mounted" : $0 }
        let output = errors.rawValue
        let child = try Process.fork {
            close(sockets[0])
            _exit(serve(arguments, in: place, sockets[1], output, attributes))
        }
        close(sockets[1])
        var received: [CInt] = [-1]
        let count = clinux_receive_descriptors(mine.rawValue, &received, 1)
        Process.wait(for: child)
        guard count == 1 else {
            lseek(output, 0, SEEK_SET)
            let text = String(decoding: (try? Files.read(errors, name: "errors", limit: 1 << 16)) ?? [], as: UTF8.self)
            let lines = text.split(separator: "\n")
            throw RuntimeError.badOption(
                "\(words[0]) could not mount \(path)" + (lines.isEmpty ? "" : ": " + lines.suffix(3).joined(separator: "; ")))
        }
        return DetachedMount(OwnedDescriptor(received[0]))
    }

    /// - Returns: an exit status.
    private static func serve(
        _ words: [String], in base: String, _ socket: CInt, _ errors: CInt, _ attributes: DetachedMount.Attributes
    ) -> CInt {
        let place = base + "/mounted"
        do throws(SystemError) {
            try Namespaces.mount.unshare()
            try Mounting.isolatePropagation()
            // libfuse mounts on empty directories only.
            try Mounting.mount("tmpfs", source: "singularity", on: base, flags: [.noSuid, .noDev], options: "mode=0755")
        } catch { return 1 }
        guard mkdir(place, 0o755) == 0, let before = Files.status(place) else { return 1 }
        let program = clinux_fork()
        guard program >= 0 else { return 1 }
        if program == 0 {
            setsid()
            for number in [SIGHUP, SIGINT, SIGQUIT, SIGTSTP] { signal(number, SIG_IGN) }
            // The program mounts by itself, for which it must keep its rights although it isn't root.
            try? CapabilitySet.full.apply()
            let null = open("/dev/null", O_RDONLY)
            dup2(null, 0)
            dup2(errors, 1)
            dup2(errors, 2)
            _ = clinux_close_range(3, UInt32.max, 0)
            var argv = words.map { strdup($0) } + [nil]
            // Nothing of the caller's variables may change what a helper does.
            var envp = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
            execve(words[0], &argv, &envp)
            _exit(127)
        }
        for _ in 0..<(patience / 2) {
            var status: CInt = 0
            if waitpid(program, &status, WNOHANG) == program { return 1 }
            if let now = Files.status(place), now.st_dev != before.st_dev, let tree = try? DetachedMount(copyOf: place, recursive: false) {
                guard (try? tree.restrict(attributes, recursive: false)) != nil else { return 1 }
                umount2(base, CInt(MNT_DETACH))
                return clinux_send_descriptors(socket, [tree.descriptor], 1) == 0 ? 0 : 1
            }
            usleep(2000)
        }
        kill(program, SIGKILL)
        return 1
    }
}

/// ext2, ext3 and ext4 images, served by fuse2fs: the kernel's own driver is no match for hostile images.
enum ExtMount {
    /// - Parameter owners: the ids that exist for those who use it; the user namespace has been entered.
    static func mount(_ path: String, offset: UInt64, isReadOnly: Bool, _ owners: RunIdentity) throws -> DetachedMount {
        guard let program = SystemProgram.find("fuse2fs") else {
            throw RuntimeError.badOption("\(path) has an ext file system, which needs the program fuse2fs: install the package fuse2fs")
        }
        // Who may write to the image may change any file in it.
        var options = [isReadOnly ? "ro" : "rw", "fakeroot"]
        // The kernel lets nobody change a file whose owner doesn't exist in the user namespace.
        if case .single(let uid, let gid) = owners { options += ["uid=\(uid)", "gid=\(gid)"] }
        if offset > 0 { options.append("offset=\(offset)") }
        return try FuseProgram.mount(
            [program, "-f", "-o", options.joined(separator: ","), path, "{}"], needing: path,
            isReadOnly ? [.noSuid, .noDev, .readOnly] : [.noSuid, .noDev])
    }
}
