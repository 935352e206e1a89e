import CLinux
import FUSEServer
import Glibc
import Linux
import SquashFS

/// A process of its own that serves an image to the kernel, and ends when the last user of the mount has gone.
///
/// It stays outside of the container's namespaces: the kernel then takes the file system away together with the mount
/// namespace, however the container ends, and the server's next read reports that. Nobody has to watch.
struct ImageServer: ~Copyable {
    /// An open /dev/fuse; the kernel wants it opened in the user namespace that mounts.
    let device: OwnedDescriptor
    private let start: OwnedDescriptor

    private init(_ device: consuming OwnedDescriptor, _ start: consuming OwnedDescriptor) {
        self.device = device
        self.start = start
    }

    /// Forks the server, which waits for ``begin()``. Only for a process with one thread.
    static func fork(
        _ image: SquashFSImage, file: CInt, ownership: SquashFSServer.Ownership, threads: Int
    ) throws(SystemError) -> ImageServer {
        let device = try OwnedDescriptor.open("/dev/fuse", O_RDWR)
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
        let waiting = OwnedDescriptor(ends[0])
        let start = OwnedDescriptor(ends[1])
        let deviceNumber = device.rawValue
        let waitingNumber = waiting.rawValue
        // Two forks, so that the server is no child of the program in the container.
        let parent = try Process.fork {
            let child = clinux_fork()
            if child == 0 {
                serve(image, file, deviceNumber, waitingNumber, ownership, threads)
            }
            _exit(child < 0 ? 1 : 0)
        }
        guard Process.wait(for: parent) == 0 else { throw SystemError("fork the image server", errno: EAGAIN) }
        return ImageServer(device, start)
    }

    /// Tells the server that the file system is mounted; before that a read of the device fails.
    consuming func begin() throws(SystemError) {
        try Files.writeAll([1], to: start.rawValue, name: "the image server's pipe")
    }

    private static func serve(
        _ image: SquashFSImage, _ file: CInt, _ device: CInt, _ waiting: CInt, _ ownership: SquashFSServer.Ownership,
        _ threads: Int
    ) -> Never {
        // Signals of the terminal and of job control are meant for the program, which still needs its files.
        setsid()
        for number in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM] { signal(number, SIG_IGN) }
        Process.setName("singularity-fs")
        let null = open("/dev/null", O_RDWR)
        for standard in 0...2 as ClosedRange<CInt> { dup2(null, standard) }
        Process.closeDescriptors(except: [file, device, waiting])
        _ = chdir("/")
        // From here on it reads hostile bytes: it keeps no right beyond its two files.
        try? Process.forbidNewPrivileges()
        try? Process.dropCapabilities()
        Process.forbidInspection()
        SquashFSServer(image, ownership: ownership).serve(device, threads: threads) {
            var byte: UInt8 = 0
            defer { close(waiting) }
            // Without the byte the launch has failed, and there is nothing to serve.
            return retryingOnInterrupt { read(waiting, &byte, 1) } == 1
        }
        _exit(0)
    }
}
