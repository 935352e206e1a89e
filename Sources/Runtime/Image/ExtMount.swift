import CLinux
import ExtFS
import FUSEServer
import Glibc
import Linux
import Messages

/// Where an ext file system is: a file, or a part of one.
public struct ExtPlace: Sendable, Equatable {
    public var path: String
    /// Bytes.
    public var offset: UInt64
    /// Bytes; 0 for the rest of the file.
    public var size: UInt64

    public init(path: String, offset: UInt64, size: UInt64) {
        self.path = path
        self.offset = offset
        self.size = size
    }
}

/// Mounts ext2, ext3 and ext4 file systems: overlays, data, images of old.
///
/// A process of their own serves them (``ExtServer``), which has the lease and ends, leaving the file system clean, when the
/// last user of the mount is gone. For root the kernel mounts files that nobody else can have prepared; the process then
/// only waits for the end, and gives the lease back.
struct ExtMount {
    let ownership: Ownership
    let isInUserNamespace: Bool
    /// Who wants it, for those that are refused meanwhile.
    let note: String
    let log: Log

    /// Mounts one; the user namespace has been entered. Only for a process with one thread.
    func mount(_ place: ExtPlace, isReadOnly: Bool) throws -> DetachedMount {
        let file: OwnedDescriptor
        do {
            file = try OwnedDescriptor.open(place.path, (isReadOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK)
        } catch { throw RuntimeError.badImage(place.path, why: error.reason) }
        var sockets: [CInt] = [0, 0]
        guard clinux_socket_pair(&sockets) == 0 else { throw SystemError.last("socketpair") }
        let errors = OwnedDescriptor(clinux_memfd("errors"))
        let mine = OwnedDescriptor(sockets[0])
        let (fileNumber, errorNumber) = (file.rawValue, errors.rawValue)
        let kernel = mayUseKernel(fileNumber)
        let child = try Process.fork {
            close(sockets[0])
            let keeper = ExtKeeper(
                place: place, isReadOnly: isReadOnly, file: fileNumber, ownership: ownership,
                isInUserNamespace: isInUserNamespace, usesKernel: kernel, note: note, log: log)
            do {
                try keeper.start(sending: sockets[1])
                _exit(0)
            } catch {
                try? Files.writeAll(Array("\(error)".utf8), to: errorNumber, name: "errors")
                _exit(1)
            }
        }
        close(sockets[1])
        var received: [CInt] = [-1]
        let count = clinux_receive_descriptors(mine.rawValue, &received, 1)
        Process.wait(for: child)
        guard count == 1 else {
            lseek(errorNumber, 0, SEEK_SET)
            let text = String(decoding: (try? Files.read(errors, name: "errors", limit: 1 << 16)) ?? [], as: UTF8.self)
            throw RuntimeError.badOption(text.isEmpty ? "\(place.path) could not be mounted" : text)
        }
        return DetachedMount(OwnedDescriptor(received[0]))
    }

    /// Root's own files may be mounted by the kernel, whose driver is no match for hostile images (CVE-2023-30549 and its kind).
    private func mayUseKernel(_ file: CInt) -> Bool {
        guard !isInUserNamespace, getuid() == 0, let status = try? Files.status(file, name: "image") else { return false }
        return status.st_uid == 0 && status.st_mode & 0o022 == 0 && KernelFileSystems.has("ext4")
    }
}

/// The process that keeps an ext file system.
private struct ExtKeeper {
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
        setsid()
        for number in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2] { signal(number, SIG_IGN) }
        Process.setName("singularity-fs")
        clinux_set_title(CommandLine.unsafeArgv, "singularity-fs \(place.path)")
        let null = open("/dev/null", O_RDWR)
        for standard in 0...2 as ClosedRange<CInt> { dup2(null, standard) }
        Process.closeDescriptors(except: [file, device, ready, mounted])
        _ = chdir("/")
        func fail(_ why: String) -> Never {
            try? Files.writeAll(Array(why.utf8), to: ready, name: "pipe")
            _exit(1)
        }
        let lease: ImageLease
        do {
            lease = try ImageLease.take(place.path, file: file, forWriting: !isReadOnly, note: note)
            try ExtCheck.afterCrash(place, file: file, isReadOnly: isReadOnly)
        } catch { fail("\(error)") }
        if usesKernel {
            guard (try? Files.writeAll([0x31], to: ready, name: "pipe")) != nil else { _exit(1) }
            close(ready)
            waitForKernel(mounted, lease)
        }
        let volume: ExtVolume
        do { volume = try ExtVolume(file: file, start: place.offset, name: place.path, isReadOnly: isReadOnly) } catch {
            lease.release()
            fail("\(error)")
        }
        guard (try? Files.writeAll([0x31], to: ready, name: "pipe")) != nil else { _exit(1) }
        close(ready)
        // From here on it reads what programs of the container write: it keeps no right beyond its two files.
        try? Process.forbidNewPrivileges()
        try? Process.dropCapabilities()
        Process.forbidInspection()
        let server = ExtServer(volume, ownership: ownership, isInUserNamespace: isInUserNamespace)
        let clock = RenewalClock(interval: Int(Self.renewal))
        server.serve(device) {
            Self.waitForMount(mounted) != nil
        } whileServing: {
            if clock.isTime { lease.renew() }
        } atEnd: {
            lease.announceEnd()
        }
        lease.release()
        _exit(0)
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
        let clock = RenewalClock(interval: Int(Self.renewal))
        while true {
            alarm(1)
            if flock(again.rawValue, LOCK_SH) == 0 { break }
            room?.follow(again.rawValue)
            if clock.isTime { lease.renew() }
        }
        lease.release()
        _exit(0)
    }
}

/// Keeps programs from writing more to a file system of the kernel than the disk under its file has room for: what was
/// promised to them and cannot be kept would be an error of the disk, and the end of the file system.
///
/// ext4 keeps clusters back for itself (`reserved_clusters` in its directory of sysfs). What is missing on the disk is added.
private struct HostRoom {
    private let setting: String
    /// When the file system was mounted: clusters kept back, bytes free on the disk, bytes of the file.
    private let kept: UInt64
    private let free: UInt64
    private let size: UInt64

    /// Bytes that are kept free beyond what is missing.
    private static let margin: UInt64 = 64 << 20
    /// Of a cluster; a file system with others is left alone.
    private static let clusterSize: UInt64 = 4096

    private static func setting(_ loop: CInt) -> String { "/sys/fs/ext4/loop\(loop)/reserved_clusters" }

    private static func bytes(_ file: CInt) -> (free: UInt64, size: UInt64)? {
        var host = statvfs()
        guard fstatvfs(file, &host) == 0, let status = try? Files.status(file, name: "image") else { return nil }
        return (UInt64(host.f_bavail) * UInt64(host.f_frsize), UInt64(status.st_blocks) * 512)
    }

    private static func write(_ clusters: UInt64, to setting: String) {
        guard let file = try? OwnedDescriptor.open(setting, O_WRONLY) else { return }
        try? Files.writeAll(Array("\(clusters)\n".utf8), to: file.rawValue, name: setting)
    }

    /// Takes what is missing away from a file system that was just mounted.
    static func begin(loop: CInt, at mountPoint: String, _ file: CInt) {
        var mounted = statvfs()
        guard statvfs(mountPoint, &mounted) == 0, UInt64(mounted.f_frsize) == clusterSize, let host = bytes(file) else { return }
        let usable = (host.free > margin ? host.free - margin : 0) / clusterSize
        let free = UInt64(mounted.f_bfree)
        if free > usable { write(free - usable, to: setting(loop)) }
    }

    /// - Returns: nil where the kernel has no such setting.
    init?(loop: CInt, _ file: CInt) {
        setting = Self.setting(loop)
        guard let text = try? Files.readText(setting), let kept = UInt64(text.filter(\.isNumber)), let now = Self.bytes(file) else {
            return nil
        }
        self.kept = kept
        (free, size) = now
    }

    /// Takes away what others have written to the disk meanwhile. What was written to this file is gone from both.
    func follow(_ file: CInt) {
        guard let now = Self.bytes(file) else { return }
        let others = Int64(free) - Int64(now.free) - (Int64(now.size) - Int64(size))
        let clusters = max(0, Int64(kept) + others / Int64(Self.clusterSize))
        Self.write(UInt64(clusters), to: setting)
    }
}

/// Says when a lease is to be renewed.
private final class RenewalClock: @unchecked Sendable {
    private let interval: Int
    private var last = 0

    init(interval: Int) { self.interval = interval }

    /// Only for one thread.
    var isTime: Bool {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        guard now.tv_sec - last >= interval else { return false }
        last = now.tv_sec
        return true
    }
}

/// Repairs by e2fsck of what a crash has left.
public enum ExtCheck {
    /// Replays the journal and checks the file system where it was not left cleanly. The lease has been taken.
    public static func afterCrash(_ place: ExtPlace, file: CInt, isReadOnly: Bool) throws {
        guard ExtVolume.needsCheck(file: file, start: place.offset) else { return }
        let writable: OwnedDescriptor
        do { writable = try OwnedDescriptor.open(place.path, O_RDWR) } catch {
            throw RuntimeError.badOption(
                "\(place.path) was not left cleanly, and must be repaired before it is used, which you may not do; ask its owner for `singularity overlay check \(place.path)`"
            )
        }
        let result = try check(place, file: writable.rawValue, repairs: false)
        guard result.isWell else {
            throw RuntimeError.badOption(
                "\(place.path) has errors that are not mended without a question (\(result.text)); `singularity overlay check --repair \(place.path)` answers all of them with yes"
            )
        }
    }

    /// Replays the journal and checks all. The lease has been taken.
    /// - Parameters:
    ///   - file: open for reading and writing.
    ///   - repairs: all that is wrong is mended, whatever is lost by it.
    ///   - options: further ones of e2fsck.
    /// - Returns: what e2fsck says, and whether all is well now.
    public static func check(_ place: ExtPlace, file: CInt, repairs: Bool, options: [String] = []) throws -> (text: String, isWell: Bool) {
        do throws(ExtImage.Failure) { _ = try ExtVolume.replayJournal(file: file, start: place.offset, name: place.path) } catch {
            guard repairs else { throw error }
            try ExtVolume.forgetJournal(file: file, start: place.offset, name: place.path)
        }
        let result = try run(place, file: file, options: ["-f", repairs ? "-y" : "-p"] + options)
        // 1: errors were corrected.
        guard result.status < 4 else { return (result.text, false) }
        let volume = try ExtVolume(file: file, start: place.offset, name: place.path, isReadOnly: false)
        try? volume.dropEmptyLostAndFound()
        volume.close()
        return (result.text, true)
    }

    /// Whether a file system was not left cleanly.
    public static func isNeeded(_ place: ExtPlace) -> Bool {
        guard let file = try? OwnedDescriptor.open(place.path, O_RDONLY) else { return true }
        return ExtVolume.needsCheck(file: file.rawValue, start: place.offset)
    }

    /// Runs e2fsck.
    /// - Returns: its exit status as e2fsck(8) has it, and what it printed.
    private static func run(_ place: ExtPlace, file: CInt, options: [String]) throws -> (status: Int32, text: String) {
        guard let program = SystemProgram.find("e2fsck") else {
            throw RuntimeError.badOption("\(place.path) must be checked by the program e2fsck: install the package e2fsprogs")
        }
        let copy = dup(file)
        defer { close(copy) }
        let result = try ChildProcess.run(
            [program] + options + ["/proc/self/fd/\(copy)" + (place.offset > 0 ? "?offset=\(place.offset)" : "")],
            errors: .inOutput)
        return (result.status, String(decoding: result.output, as: UTF8.self).replacing("/proc/self/fd/\(copy)", with: place.path))
    }
}
