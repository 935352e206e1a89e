import CLinux
import Glibc
import Linux

/// The program fuse-overlayfs, for hosts or file systems that the kernel's own overlay refuses.
///
/// `SINGULARITY_FUSE_OVERLAYFS` names another program, or `none`.
enum FuseOverlay {
    /// Where it is; nil where it is not.
    static var program: String? {
        if let given = Environment.setting("FUSE_OVERLAYFS") { return given == "none" ? nil : given }
        return ["/usr/bin/fuse-overlayfs", "/usr/local/bin/fuse-overlayfs", "/bin/fuse-overlayfs"].first { access($0, X_OK) == 0 }
    }

    /// Mounts on a directory.
    ///
    /// The server gets a mount namespace of its own before anything is mounted: in this one, the change of the root
    /// directory would make it look for its files in what it serves itself.
    /// - Parameters:
    ///   - lowers: directories, the newest first, relative to the working directory.
    ///   - upper: an open directory.
    ///   - work: an open directory of the same file system.
    ///   - diesWithParent: it ends with this process; otherwise with the last user of the mount.
    ///   - withoutACLs: for layers whose file system has none, which would make permission checks fail.
    static func mount(
        _ program: String, lowers: [String], upper: CInt, work: CInt, on target: String, isReadOnly: Bool = false,
        diesWithParent: Bool = true,
        withoutACLs: Bool = false
    ) throws(SystemError) {
        let device = try OwnedDescriptor.open("/dev/fuse", O_RDWR)
        // Number 3 is what the server is told to serve.
        let served: CInt = 3
        var ready: [CInt] = [0, 0]
        var mounted: [CInt] = [0, 0]
        guard clinux_pipe(&ready) == 0, clinux_pipe(&mounted) == 0 else { throw .last("pipe") }
        let options =
            "\(withoutACLs ? "noacl," : "")lowerdir=\(lowers.joined(separator: ":")),upperdir=\(try path(of: upper)),workdir=\(try path(of: work))"
        let number = device.rawValue
        let server = try Process.fork {
            if diesWithParent { Process.dieWithParent() } else { setsid() }
            guard (try? Namespaces.mount.unshare()) != nil else { _exit(1) }
            var byte: UInt8 = 1
            _ = write(ready[1], &byte, 1)
            close(ready[1])
            close(mounted[1])
            guard retryingOnInterrupt({ read(mounted[0], &byte, 1) }) == 1 else { _exit(1) }
            let null = open("/dev/null", O_RDWR)
            for standard in 0...2 as ClosedRange<CInt> { dup2(null, standard) }
            if number == served { _ = fcntl(number, F_SETFD, 0) } else { dup2(number, served) }
            let words = [program, "-f", "-o", options, "/dev/fd/\(served)"]
            var argv: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
            execve(program, &argv, clinux_environ())
            _exit(127)
        }
        close(ready[1])
        close(mounted[0])
        let isReady = OwnedDescriptor(ready[0])
        let start = OwnedDescriptor(mounted[1])
        var byte: UInt8 = 0
        let waiting = isReady.rawValue
        guard retryingOnInterrupt({ read(waiting, &byte, 1) }) == 1 else { throw SystemError("start \(program)", errno: EPERM) }
        try Mounting.mount(
            "fuse", source: "fuse-overlayfs", on: target, flags: isReadOnly ? [.noSuid, .noDev, .readOnly] : [.noSuid, .noDev],
            options: "fd=\(number),rootmode=40000,user_id=\(getuid()),group_id=\(getgid()),allow_other,default_permissions")
        try Files.writeAll([1], to: start.rawValue, name: "pipe")
        // Only the server may hold the device, so that its death is noticed.
        close(device.release())
        // The first answer says that it serves; one that has ended makes the mount an error.
        guard Files.status(target) != nil else {
            kill(server, SIGKILL)
            throw SystemError("mount with \(program)", errno: errno)
        }
    }

    private static func path(of descriptor: CInt) throws(SystemError) -> String {
        guard let path = Files.readLink("/proc/self/fd/\(descriptor)") else { throw .last("find the temporary directory") }
        return path
    }
}
