import CLinux
import ExtFS
import FUSEServer
import Glibc
import Linux
import Messages

/// The process that keeps an ext file system.
struct ExtKeeper {
    let place: ExtPlace
    let isReadOnly: Bool
    let file: CInt
    let ownership: Ownership
    let isInUserNamespace: Bool
    let usesKernel: Bool
    let note: String
    let log: Log

    /// Directories that a mount namespace of one's own can be mounted over.
    private static let spots = ["/mnt", "/srv", "/media", "/opt", "/var/tmp", "/tmp"]
    /// Seconds between renewals of the lease.
    private static let renewal: UInt32 = 20

    /// Makes the mount, in a mount namespace that has nothing else to do, and sends a copy of it; what stays is a process that
    /// is nobody's child.
    func start(sending socket: CInt) throws {
        let device = usesKernel ? -1 : try OwnedDescriptor.open("/dev/fuse", O_RDWR).release()
        var ready: [CInt] = [0, 0]
        var mounted: [CInt] = [0, 0]
        guard clinux_pipe(&ready) == 0, clinux_pipe(&mounted) == 0 else { throw SystemError.last("pipe") }
        let keeper = try Process.fork {
            close(ready[0])
            close(mounted[1])
            close(socket)
            keep(device, ready: ready[1], mounted: mounted[0])
        }
        close(ready[1])
        close(mounted[0])
        // It says "1" where all is well, and what is wrong otherwise.
        let answer = try Files.read(OwnedDescriptor(ready[0]), name: "keeper", limit: 1 << 16)
        guard answer.first == 0x31 else { throw RuntimeError.badOption(String(decoding: answer, as: UTF8.self)) }
        do {
            var number: CInt = -1
            let tree = try mount(device, &number)
            guard clinux_send_descriptors(socket, [tree.descriptor], 1) == 0 else { throw SystemError.last("send the mount") }
            // The loop device's number, for the kernel's mounts.
            try withUnsafeBytes(of: number) { try Files.writeAll(Array($0), to: mounted[1], name: "keeper") }
        } catch {
            kill(keeper, SIGKILL)
            throw error
        }
    }

    private var flags: MountFlags { isReadOnly ? [.noSuid, .noDev, .readOnly] : [.noSuid, .noDev] }

    /// - Parameter loop: gets the number of the loop device, where there is one.
    private func mount(_ device: CInt, _ loop: inout CInt) throws -> DetachedMount {
        guard let spot = Self.spots.first(where: { Files.isDirectory($0) && !LaunchPlanner.isPath(place.path, within: $0) }) else {
            throw SystemError("find a directory to mount on (tried \(Self.spots.joined(separator: ", ")))", errno: ENOENT)
        }
        try Namespaces.mount.unshare()
        try Mounting.isolatePropagation()
        if usesKernel {
            guard let (node, number) = LoopDevice.attach(file, place.offset, place.size, isWritable: !isReadOnly, log) else {
                throw RuntimeError.badOption("\(place.path) cannot be mounted: this host has no free loop device")
            }
            defer { close(node) }
            loop = number
            do throws(SystemError) {
                try Mounting.mount("ext4", source: "/dev/loop\(number)", on: spot, flags: flags, options: "errors=remount-ro")
            } catch {
                throw RuntimeError.badOption("\(place.path) cannot be mounted (\(error.reason)); `singularity overlay check` tells more")
            }
            if !isReadOnly { HostRoom.begin(loop: number, at: spot, file) }
        } else {
            try Mounting.mount(
                "fuse", source: place.path, on: spot, flags: flags,
                options:
                    "fd=\(device),rootmode=40000,user_id=\(getuid()),group_id=\(getgid()),allow_other,default_permissions,max_read=\(1 << 20)"
            )
            close(device)
        }
        return try DetachedMount(copyOf: spot, recursive: false)
    }

    // MARK: The process that stays

    private func keep(_ device: CInt, ready: CInt, mounted: CInt) -> Never {
        KeeperProcess.begin("singularity-fs", for: place.path)
        Process.closeDescriptors(except: [file, device, ready, mounted])
        _ = chdir("/")
        func fail(_ why: String) -> Never {
            try? Files.writeAll(Array(why.utf8), to: ready, name: "pipe")
            _exit(1)
        }
        let lease: ImageLease
        do { lease = try ExtCheck.lease(place, file: file, forWriting: !isReadOnly, note: note) } catch { fail("\(error)") }
        if usesKernel {
            guard (try? Files.writeAll([0x31], to: ready, name: "pipe")) != nil else { _exit(1) }
            close(ready)
            waitForKernel(mounted, lease)
        }
        let volume: ExtVolume
        do { volume = try ExtVolume(try place.storage(file), name: place.path, isReadOnly: isReadOnly) } catch {
            lease.release()
            fail("\(error)")
        }
        guard (try? Files.writeAll([0x31], to: ready, name: "pipe")) != nil else { _exit(1) }
        close(ready)
        // From here on it reads what programs of the container write: it keeps no right beyond its two files and its lease.
        try? Process.forbidNewPrivileges()
        try? Process.dropCapabilities()
        Process.forbidInspection()
        confine()
        let server = ExtServer(volume, ownership: ownership, isInUserNamespace: isInUserNamespace)
        let clock = RenewalClock(interval: Int(Self.renewal))
        server.serve(device) {
            Self.waitForMount(mounted) != nil
        } whileServing: {
            if clock.isTime, !lease.renew() { volume.stop() }
        } atEnd: {
            lease.announceEnd()
        }
        lease.release()
        // Its lock is waited for, and the end of the watch for copies takes a third of a second.
        close(file)
        _exit(0)
    }

    private func confine() {
        guard !isReadOnly, let slash = place.path.lastIndex(of: "/") else { return Process.confineToReading() }
        let folder = slash == place.path.startIndex ? "/" : String(place.path[..<slash])
        // Without it the lease cannot be renewed, and others would take it over while this process writes.
        guard let beside = try? OwnedDescriptor.open(folder, O_PATH_FLAG | O_DIRECTORY) else { return }
        Process.confineToWriting(in: beside)
    }

    /// - Returns: number of the loop device, -1 for none; nil where there will be no mount.
    private static func waitForMount(_ pipe: CInt) -> CInt? {
        var number: CInt = 0
        defer { close(pipe) }
        let size = MemoryLayout<CInt>.size
        return retryingOnInterrupt { read(pipe, &number, size) } == size ? number : nil
    }

    /// The kernel's loop device has the lock of the open file until it is cleared.
    private func waitForKernel(_ mounted: CInt, _ lease: ImageLease) -> Never {
        let number = Self.waitForMount(mounted)
        close(file)
        guard let number, let again = try? OwnedDescriptor.open(place.path, O_RDONLY | O_NONBLOCK) else {
            lease.release()
            _exit(0)
        }
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        sigaction(SIGALRM, &action, nil)
        let room = isReadOnly ? nil : HostRoom(loop: number, again.rawValue)
        let copyGuard = isReadOnly ? nil : CopyGuard.start(again.rawValue, loop: number)
        let clock = RenewalClock(interval: Int(Self.renewal))
        while true {
            alarm(1)
            if flock(again.rawValue, LOCK_SH) == 0 { break }
            room?.follow(again.rawValue)
            if clock.isTime { _ = lease.renew() }
        }
        lease.release()
        if let copyGuard { kill(copyGuard, SIGKILL) }
        _exit(0)
    }
}

/// Says when a lease is to be renewed.
private final class RenewalClock: @unchecked Sendable {
    private let interval: Int
    private var last = 0

    init(interval: Int) { self.interval = interval }

    /// Only for one thread.
    var isTime: Bool {
        let now = MonotonicClock.seconds
        guard now - last >= interval else { return false }
        last = now
        return true
    }
}
