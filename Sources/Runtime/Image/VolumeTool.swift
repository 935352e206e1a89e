import CLinux
import ExtFS
import FUSEServer
import Glibc
import Linux

/// Runs programs of e2fsprogs on volumes that no file has as they are, because they are encrypted: what a program opens is a
/// file that is served to it alone, in a mount namespace of its own. Only for a process with one thread.
public enum VolumeTool {
    /// Directories that can be mounted over there: the programs, and what they need, are elsewhere.
    private static let spots = ["/mnt", "/srv", "/media", "/opt", "/var/tmp", "/tmp"]

    /// - Parameters:
    ///   - size: of the volume, bytes.
    ///   - name: of the volume, for messages.
    ///   - arguments: the program and its arguments, for the path of the file that it shall use.
    /// - Returns: the exit status of the program, and what it printed.
    public static func run(
        _ storage: any VolumeStorage, size: UInt64, _ name: String, _ arguments: (String) -> [String]
    ) throws -> (status: Int32, text: String) {
        // Whether it was run, its status, and what it printed or why it could not be run.
        let answer = try Process.inChild(
            {
                do {
                    let result = try serve(storage, size, arguments)
                    let text = String(decoding: result.output, as: UTF8.self).replacing(result.path, with: name)
                    return [1, UInt8(truncatingIfNeeded: result.status)] + Array(text.utf8)
                } catch { return [0, 0] + Array("\(error)".utf8) }
            }, failed: { _ in })
        guard let answer, answer.count >= 2 else { throw RuntimeError.badOption("\(name): its check was interrupted") }
        let text = String(decoding: answer.dropFirst(2), as: UTF8.self)
        guard answer[0] == 1 else {
            throw RuntimeError.badOption("\(name) is encrypted, and cannot be shown to the program that is needed: \(text)")
        }
        return (Int32(answer[1]), text)
    }

    private static func serve(
        _ storage: any VolumeStorage, _ size: UInt64, _ arguments: (String) -> [String]
    ) throws -> (status: Int32, output: [UInt8], path: String) {
        guard let spot = spots.first(where: Files.isDirectory) else {
            throw SystemError("find a directory to mount on (tried \(spots.joined(separator: ", ")))", errno: ENOENT)
        }
        if (try? Namespaces.mount.unshare()) == nil {
            try UserNamespace.enter(uid: getuid(), gid: getgid())
            try Namespaces.mount.unshare()
        }
        try Mounting.isolatePropagation(follows: false)
        let device = try OwnedDescriptor.open("/dev/fuse", O_RDWR)
        let number = device.rawValue
        try Mounting.mount(
            "fuse", source: "singularity", on: spot, flags: [.noSuid, .noDev, .noExec],
            options: "fd=\(number),rootmode=40000,user_id=\(getuid()),group_id=\(getgid()),max_read=\(128 << 10)")
        let server = try Process.fork {
            Process.dieWithParent()
            Process.setName("singularity-fs")
            VolumeFileServer(storage, size: size).serve(number)
            _exit(0)
        }
        defer {
            umount2(spot, 0)
            Process.wait(for: server)
        }
        let path = "\(spot)/\(VolumeFileServer.fileName)"
        let result = try ChildProcess.run(arguments(path), errors: .inOutput)
        return (result.status, result.output, path)
    }
}
