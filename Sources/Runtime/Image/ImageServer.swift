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
    /// A child to be waited for: the server, or one that has made it and ends at once.
    private let child: pid_t
    private let isOrphan: Bool

    private init(_ device: consuming OwnedDescriptor, _ start: consuming OwnedDescriptor, child: pid_t, isOrphan: Bool) {
        self.child = child
        self.isOrphan = isOrphan
        self.device = device
        self.start = start
    }

    /// How the image shall be served.
    struct Settings {
        var ownership: Ownership
        var threads: Int
        /// The container's processes have the numbers that the server sees.
        var seesClients: Bool
        /// It shall be nobody's child. Otherwise it is this process's, which will collect it.
        var isOrphan: Bool
        /// What the program will read first.
        var warmUp: [String]
    }

    /// Forks the server, which waits for ``begin()``. Only for a process with one thread.
    static func fork(
        _ image: SquashFSImage, file: CInt, _ settings: Settings
    ) throws(SystemError) -> ImageServer {
        let device = try OwnedDescriptor.open("/dev/fuse", O_RDWR)
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw .last("pipe") }
        let waiting = OwnedDescriptor(ends[0])
        let start = OwnedDescriptor(ends[1])
        let deviceNumber = device.rawValue
        let waitingNumber = waiting.rawValue
        let child = try Process.fork {
            // Two forks, so that the server is no child of the program, which may wait for all that it has.
            let server = settings.isOrphan ? clinux_fork() : 0
            if server == 0 { serve(image, file, deviceNumber, waitingNumber, settings) }
            _exit(server < 0 ? 1 : 0)
        }
        return ImageServer(device, start, child: child, isOrphan: settings.isOrphan)
    }

    /// The server, where it is a child of this process.
    var ownChild: pid_t? { isOrphan ? nil : child }

    /// Tells the server that the file system is mounted; before that a read of the device fails.
    consuming func begin() throws(SystemError) {
        guard !isOrphan || Process.wait(for: child) == 0 else { throw SystemError("fork the image server", errno: EAGAIN) }
        try Files.writeAll([1], to: start.rawValue, name: "the image server's pipe")
    }

    private static func serve(
        _ image: SquashFSImage, _ file: CInt, _ device: CInt, _ waiting: CInt, _ settings: Settings
    ) -> Never {
        // Signals of the terminal and of job control are meant for the program, which still needs its files.
        setsid()
        for number in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2, SIGALRM] { signal(number, SIG_IGN) }
        Process.setName("singularity-fs")
        clinux_set_title(CommandLine.unsafeArgv, "singularity-fs \(image.name)")
        let null = open("/dev/null", O_RDWR)
        for standard in 0...2 as ClosedRange<CInt> { dup2(null, standard) }
        Process.closeDescriptors(except: [file, device, waiting])
        _ = chdir("/")
        // From here on it reads hostile bytes: it keeps no right beyond its two files.
        try? Process.forbidNewPrivileges()
        try? Process.dropCapabilities()
        Process.forbidInspection()
        Process.confineToReading()
        let server = SquashFSServer(image, ownership: settings.ownership)
        server.serve(device, threads: settings.threads, seesClients: settings.seesClients, warmUp: settings.warmUp) {
            var byte: UInt8 = 0
            defer { close(waiting) }
            // Without the byte the launch has failed, and there is nothing to serve.
            return retryingOnInterrupt { read(waiting, &byte, 1) } == 1
        }
        _exit(0)
    }
}
