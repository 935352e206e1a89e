import Glibc
import Linux

/// The program fuse-overlayfs, for hosts or file systems that the kernel's own overlay refuses.
///
/// `SINGULARITY_FUSE_OVERLAYFS` names another program, or `none`.
enum FuseOverlay {
    /// Where it is; nil where it is not.
    static var program: String? {
        if let given = Environment.setting("FUSE_OVERLAYFS") { return given == "none" ? nil : given }
        return SystemProgram.find("fuse-overlayfs")
    }

    /// Mounts on a directory.
    /// - Parameters:
    ///   - lowers: directories, the newest first, relative to the working directory.
    ///   - upper: an open directory.
    ///   - work: an open directory of the same file system.
    ///   - diesWithParent: it ends with this process; otherwise with the last user of the mount.
    ///   - withoutACLs: for layers whose file system has none, which would make permission checks fail.
    static func mount(
        _ program: String, lowers: [String], upper: CInt, work: CInt, on target: String, isReadOnly: Bool = false,
        diesWithParent: Bool = true, withoutACLs: Bool = false
    ) throws(SystemError) {
        let device = try OwnedDescriptor.open("/dev/fuse", O_RDWR)
        let options =
            "\(withoutACLs ? "noacl," : "")lowerdir=\(lowers.joined(separator: ":")),upperdir=\(try path(of: upper)),workdir=\(try path(of: work))"
        let number = device.rawValue
        let server = try WaitingServer(
            [program, "-f", "-o", options], device: number, diesWithParent: diesWithParent, isSilent: true)
        try Mounting.mount(
            "fuse", source: "fuse-overlayfs", on: target, flags: isReadOnly ? [.noSuid, .noDev, .readOnly] : [.noSuid, .noDev],
            options: "fd=\(number),rootmode=40000,user_id=\(getuid()),group_id=\(getgid()),allow_other,default_permissions")
        try server.begin()
        // Only the server may hold the device, so that its death is noticed.
        close(device.release())
        // The first answer says that it serves; one that has ended makes the mount an error.
        guard Files.status(target) != nil else {
            kill(server.process, SIGKILL)
            throw SystemError("mount with \(program)", errno: errno)
        }
    }

    private static func path(of descriptor: CInt) throws(SystemError) -> String {
        guard let path = Files.readLink("/proc/self/fd/\(descriptor)") else { throw .last("find the temporary directory") }
        return path
    }
}
