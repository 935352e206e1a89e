import CLinux
import ExtFS
import Glibc
import Linux

/// Answers the kernel's FUSE requests from an ext file system, which it may change.
///
/// One thread answers, one commits. Whoever wants something on disk (fsync) waits for the next commit, together with all who
/// want the same meanwhile; nobody else waits for a disk, unless more has changed than memory should hold, or so little that
/// the thread which answers does it on the way.
///
/// Data is not kept back by the kernel (no write-back cache): a program that finds no room learns it from its write(2), not
/// from an fsync(2) that some take for the end of the world.
///
/// `@unchecked Sendable`: state is behind the volume's lock.
public final class ExtServer: @unchecked Sendable {
    let volume: ExtVolume
    let ownership: Ownership
    private let hidesTrusted: Bool
    /// How often the kernel has been told of each inode, less what it has forgotten.
    private var lookups: [UInt32: UInt64] = [:]
    /// Who waits for a commit.
    private var waiting: [Reply] = []
    private var wantsCommit = false
    /// How many commits there were.
    private var commits = 0
    private var isCommitting = false
    /// Nanoseconds that the last one took.
    private var lastCommit: UInt64 = 0
    private var hasEnded = false

    /// Seconds that the kernel may keep what it was told: nobody else changes anything.
    static let validity: UInt64 = 1 << 30
    /// Bytes of the largest read and write that is answered in one piece.
    static let largestTransfer = 1 << 20
    /// Seconds after which changes are committed that nobody waits for.
    private static let interval = 5
    /// Nanoseconds of a commit for which all other requests may wait.
    private static let shortCommit: UInt64 = 500_000

    /// - Parameter isInUserNamespace: the overlay file system of the kernel then keeps its marks in attributes whose names
    ///   begin with `user.overlay.` instead of `trusted.overlay.`; on disk they are the latter, so that root finds them too.
    public init(_ volume: ExtVolume, ownership: Ownership, isInUserNamespace: Bool) {
        self.volume = volume
        self.ownership = ownership
        hidesTrusted = isInUserNamespace
    }

    // MARK: The loops

    /// Answers requests until the file system is unmounted, and leaves it clean.
    /// - Parameters:
    ///   - device: an open /dev/fuse.
    ///   - begin: returns once the file system is mounted; false where it will not be.
    ///   - whileServing: called every few seconds, on another thread.
    ///   - atEnd: called when nobody uses the file system any more, and before it is written to its end.
    public func serve(
        _ device: CInt, begin: () -> Bool, whileServing tick: @escaping @Sendable () -> Void, atEnd: () -> Void
    ) {
        let mayLook = MachineLimits.processors > 1
        let committer = volume.isReadOnly ? nil : try? WorkerThread { [self] in commitLoop(tick) }
        // Without it, what is written would never be on disk.
        if volume.isReadOnly || committer != nil, begin() { loop(device, mayLook: mayLook) }
        atEnd()
        volume.lock.locked {
            hasEnded = true
            volume.lock.wakeAll()
        }
        committer?.join()
        volume.close()
    }

    private func commitLoop(_ tick: () -> Void) {
        let clock = volume.lock
        var last = MonotonicClock.seconds
        while true {
            let isLast = clock.locked { () -> Bool in
                while true {
                    // The thread that answers commits; it is soon over, and wakes nobody.
                    if isCommitting {
                        clock.wait(milliseconds: 1)
                        continue
                    }
                    let rest = Self.interval - (MonotonicClock.seconds - last)
                    if hasEnded || !waiting.isEmpty || wantsCommit || rest <= 0 { break }
                    clock.wait(milliseconds: rest * 1000)
                }
                wantsCommit = false
                isCommitting = true
                return hasEnded
            }
            commit()
            clock.wakeAll()
            if isLast { return }
            if MonotonicClock.seconds - last >= Self.interval {
                last = MonotonicClock.seconds
                tick()
            }
        }
    }

    /// Commits all up to now, and answers who waits for it. Without the lock; ``isCommitting`` has been set by the caller.
    private func commit() {
        let replies = volume.lock.locked {
            defer { waiting = [] }
            return waiting
        }
        let begin = MonotonicClock.nanoseconds
        let error = volume.commit()
        let duration = MonotonicClock.nanoseconds - begin
        volume.lock.locked {
            commits += 1
            lastCommit = duration
            isCommitting = false
        }
        for reply in replies { reply.error(error) }
    }

    /// Whether the thread that answers should commit by itself, which saves the way to the other one and back: where somebody waits
    /// for it, and it takes so little time that others hardly notice. With the lock held.
    private func beginsCommit() -> Bool {
        if waiting.isEmpty || isCommitting { return false }
        isCommitting = lastCommit < Self.shortCommit && volume.hasLittleToCommit && !volume.isBeingCopied
        if !isCommitting { volume.lock.wakeAll() }
        return isCommitting
    }

    private func loop(_ device: CInt, mayLook: Bool) {
        // The kernel wants room for a header and the largest write.
        let input = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.largestTransfer + (64 << 10), alignment: 4096)
        let output = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.largestTransfer, alignment: 4096)
        var reader = RequestReader(device, mayLook: mayLook)
        defer {
            input.deallocate()
            output.deallocate()
        }
        while true {
            let count = reader.next(input)
            if count < 0 { return }
            guard let request = Request(UnsafeRawBufferPointer(rebasing: input[..<count])) else { continue }
            let reply = Reply(device: device, unique: request.header.unique)
            let commitsHere = volume.lock.locked { () -> Bool in
                waitForRoom()
                do throws(ExtError) {
                    do throws(ExtError) { try answer(request, reply, output) } catch {
                        // What was removed just now gives its room back with the next commit.
                        guard error.errno == ENOSPC, volume.commitFreesRoom else { throw error }
                        waitForCommit()
                        try answer(request, reply, output)
                    }
                } catch { reply.error(error.errno) }
                return beginsCommit()
            }
            if commitsHere { commit() }
        }
    }

    /// Waits while more is to be committed than a transaction should have. With the lock held.
    func waitForRoom() {
        while volume.isFull && volume.failure == 0 {
            wantsCommit = true
            volume.lock.wakeAll()
            volume.lock.wait()
        }
    }

    /// Waits until what has changed up to now is committed. With the lock held.
    private func waitForCommit() {
        let wanted = commits + 2
        wantsCommit = true
        volume.lock.wakeAll()
        // One that has begun may have begun too early.
        while commits < wanted && volume.failure == 0 {
            wantsCommit = true
            volume.lock.wakeAll()
            volume.lock.wait()
        }
    }

    private func answer(_ request: Request, _ reply: Reply, _ buffer: UnsafeMutableRawBufferPointer) throws(ExtError) {
        switch fuse_opcode(request.header.opcode) {
        case FUSE_INIT: initialize(request, reply)
        case FUSE_LOOKUP: try lookUp(request, reply)
        case FUSE_GETATTR: reply.send(try attributes(inode(request)))
        case FUSE_SETATTR: try setAttributes(request, reply)
        case FUSE_READLINK: try volume.target(inode(request)).withUnsafeBytes { reply.send($0) }
        case FUSE_MKNOD: try makeNode(request, reply)
        case FUSE_MKDIR: try makeDirectory(request, reply)
        case FUSE_SYMLINK: try makeLink(request, reply)
        case FUSE_LINK: try link(request, reply)
        case FUSE_UNLINK: try remove(request, reply, isDirectory: false)
        case FUSE_RMDIR: try remove(request, reply, isDirectory: true)
        case FUSE_RENAME, FUSE_RENAME2: try rename(request, reply)
        case FUSE_READ: try read(request, reply, buffer)
        case FUSE_WRITE: try write(request, reply)
        case FUSE_FALLOCATE: try allocate(request, reply)
        case FUSE_READDIR, FUSE_READDIRPLUS: try list(request, reply, buffer)
        case FUSE_FSYNC, FUSE_FSYNCDIR: try synchronise(reply)
        case FUSE_STATFS: statistics(reply)
        case FUSE_GETXATTR: try getAttribute(request, reply)
        case FUSE_LISTXATTR: try listAttributes(request, reply)
        case FUSE_SETXATTR: try setAttribute(request, reply)
        case FUSE_REMOVEXATTR: try removeAttribute(request, reply)
        case FUSE_FORGET:
            if let forget = request.load(fuse_forget_in.self) { self.forget(inode(request), forget.nlookup) }
        case FUSE_BATCH_FORGET: forgetSeveral(request)
        case FUSE_INTERRUPT: break
        case FUSE_DESTROY: reply.error(0)
        // Files need not be opened: an inode lives as long as the kernel knows it.
        default: reply.error(ENOSYS)
        }
    }

    private func initialize(_ request: Request, _ reply: Reply) {
        guard let wanted = request.load(FUSEInit.self), wanted.major >= 7 else { return reply.error(EPROTO) }
        var out = fuse_init_out()
        out.major = 7
        out.minor = min(wanted.minor, 33)
        out.max_readahead = max(wanted.max_readahead, 1 << 20)
        // From linux/fuse.h: async reads, big writes, readdirplus where it pays, no need for open, parallel lookups, many
        // pages, cached links, no need for opendir, set-user-id bits cleared here.
        let wish: UInt32 = 1 << 0 | 1 << 5 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 18 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 28
        out.flags = wanted.flags & wish
        out.max_background = 64
        out.congestion_threshold = 48
        out.max_write = UInt32(Self.largestTransfer)
        out.time_gran = 1
        out.max_pages = UInt16(Self.largestTransfer / 4096)
        reply.send(out)
    }

    // MARK: Inodes

    /// The root has number 1 for the kernel and 2 on disk; number 1 on disk has no name.
    func inode(_ request: Request) -> UInt32 { Self.inode(request.header.nodeid) }
    static func inode(_ node: UInt64) -> UInt32 { node == 1 ? ExtVolume.root : UInt32(truncatingIfNeeded: node) }
    static func node(_ inode: UInt32) -> UInt64 { inode == ExtVolume.root ? 1 : UInt64(inode) }

    func attr(_ number: UInt32, _ inode: VolumeInode) -> fuse_attr {
        var attr = fuse_attr()
        attr.ino = UInt64(number)
        attr.size = inode.size
        attr.blocks = inode.blockCount
        (attr.atime, attr.atimensec) = (UInt64(bitPattern: inode.accessTime.seconds), inode.accessTime.nanoseconds)
        (attr.mtime, attr.mtimensec) = (UInt64(bitPattern: inode.modificationTime.seconds), inode.modificationTime.nanoseconds)
        (attr.ctime, attr.ctimensec) = (UInt64(bitPattern: inode.changeTime.seconds), inode.changeTime.nanoseconds)
        attr.mode = inode.mode
        attr.nlink = inode.linkCount
        (attr.uid, attr.gid) = ownership.shown(uid: inode.uid, gid: inode.gid)
        if inode.isDevice {
            let (major, minor) = inode.device
            attr.rdev = minor & 0xff | major << 8 | (minor & ~0xff) << 12
        }
        attr.blksize = volume.room.blockSize
        return attr
    }

    private func attributes(_ number: UInt32) throws(ExtError) -> fuse_attr_out {
        var out = fuse_attr_out()
        out.attr_valid = Self.validity
        out.attr = attr(number, try volume.readInode(number))
        return out
    }

    /// What the kernel learns with a name; it will forget it again.
    func entry(_ number: UInt32) throws(ExtError) -> fuse_entry_out {
        let inode = try volume.readInode(number)
        var out = fuse_entry_out()
        out.nodeid = Self.node(number)
        out.generation = UInt64(inode.generation)
        out.entry_valid = Self.validity
        out.attr_valid = Self.validity
        out.attr = attr(number, inode)
        lookups[number, default: 0] += 1
        return out
    }

    private func forget(_ number: UInt32, _ count: UInt64) {
        let left = (lookups[number] ?? 0).subtractingReportingOverflow(count)
        if left.overflow || left.partialValue == 0 {
            lookups[number] = nil
            freeIfUnused(number)
        } else {
            lookups[number] = left.partialValue
        }
    }

    private func forgetSeveral(_ request: Request) {
        guard let head = request.load(fuse_batch_forget_in.self) else { return }
        let size = MemoryLayout<fuse_forget_one>.size
        var offset = MemoryLayout<fuse_batch_forget_in>.size
        for _ in 0..<head.count where offset + size <= request.body.count {
            let one = request.body.loadUnaligned(fromByteOffset: offset, as: fuse_forget_one.self)
            forget(Self.inode(one.nodeid), one.nlookup)
            offset += size
        }
    }

    /// Frees a file without a name that the kernel doesn't know any more.
    func freeIfUnused(_ number: UInt32) {
        guard lookups[number] == nil, volume.isOrphan(number) else { return }
        do throws(ExtError) {
            while !(try volume.free(number)) { waitForRoom() }
        } catch {
            // It stays in the list of orphans, and is freed at the next mount.
        }
    }

    // MARK: The whole

    private func synchronise(_ reply: Reply) throws(ExtError) {
        if volume.failure != 0 { throw ExtError(volume.failure == ENOSPC ? ENOSPC : EIO) }
        if volume.isReadOnly { return reply.error(0) }
        waiting.append(reply)
    }

    private func statistics(_ reply: Reply) {
        let room = volume.room
        var out = fuse_statfs_out()
        out.st.bsize = room.blockSize
        out.st.frsize = room.blockSize
        out.st.blocks = room.blocks
        out.st.bfree = room.free
        out.st.bavail = room.free
        out.st.files = UInt64(room.inodes)
        out.st.ffree = UInt64(room.freeInodes)
        out.st.namelen = 255
        reply.send(out)
    }

    // MARK: Extended attributes

    private static let shownOverlay = "user.overlay."
    private static let storedOverlay = "trusted.overlay."

    /// A directory that hides what is below it, as the kernel marks it for root; and in user namespaces, and as fuse-overlayfs
    /// does.
    private static let opaque = "trusted.overlay.opaque"
    private static var otherOpaques: [String] { ["user.overlay.opaque", "user.fuseoverlayfs.opaque"] }

    private func stored(_ name: String) -> String {
        hidesTrusted && name.hasPrefix(Self.shownOverlay) ? Self.storedOverlay + name.dropFirst(Self.shownOverlay.count) : name
    }

    private func name(_ request: Request, from offset: Int) throws(ExtError) -> String {
        guard let bytes = request.name(from: offset) else { throw ExtError(EINVAL) }
        let name = String(decoding: bytes, as: UTF8.self)
        // Access control lists would have to be understood.
        guard !name.hasPrefix("system."), Array(name.utf8) == bytes else { throw ExtError(EOPNOTSUPP) }
        return stored(name)
    }

    private func getAttribute(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_getxattr_in.self) else { throw ExtError(EINVAL) }
        let name = try name(request, from: MemoryLayout<fuse_getxattr_in>.size)
        let number = inode(request)
        var value = try volume.attribute(name, of: number)
        if hidesTrusted, name == Self.opaque {
            for other in Self.otherOpaques where value == nil { value = try volume.attribute(other, of: number) }
        }
        guard let value else { throw ExtError(ENODATA) }
        try send(value, wanted: wanted, reply)
    }

    private func listAttributes(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_getxattr_in.self) else { throw ExtError(EINVAL) }
        let names = try volume.attributeNames(of: inode(request)).compactMap { name -> String? in
            guard hidesTrusted, name.hasPrefix("trusted.") else { return name }
            return name.hasPrefix(Self.storedOverlay) ? Self.shownOverlay + name.dropFirst(Self.storedOverlay.count) : nil
        }
        try send(names.flatMap { Array($0.utf8) + [0] }, wanted: wanted, reply)
    }

    /// A caller that gives no room asks for the size.
    private func send(_ value: [UInt8], wanted: fuse_getxattr_in, _ reply: Reply) throws(ExtError) {
        if wanted.size == 0 {
            var out = fuse_getxattr_out()
            out.size = UInt32(value.count)
            return reply.send(out)
        }
        guard value.count <= Int(wanted.size) else { throw ExtError(ERANGE) }
        value.withUnsafeBytes { reply.send($0) }
    }

    /// Bytes of the request before the name: the later fields were not asked for.
    private static let setXattrSize = 8

    private func setAttribute(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_getxattr_in.self) else { throw ExtError(EINVAL) }
        let name = try name(request, from: Self.setXattrSize)
        guard let bytes = request.name(from: Self.setXattrSize) else { throw ExtError(EINVAL) }
        let start = Self.setXattrSize + bytes.count + 1
        guard start + Int(wanted.size) <= request.body.count else { throw ExtError(EINVAL) }
        // The second field is of the same size, and has the flags.
        let value = Array(request.body[start..<start + Int(wanted.size)])
        try volume.setAttribute(name, value, of: inode(request), flags: wanted.padding)
        if hidesTrusted, name == Self.opaque, value == [UInt8(ascii: "y")] {
            // The peers' programs without root see no trusted attributes.
            for other in Self.otherOpaques { try volume.setAttribute(other, value, of: inode(request)) }
        }
        reply.error(0)
    }

    private func removeAttribute(_ request: Request, _ reply: Reply) throws(ExtError) {
        let name = try name(request, from: 0)
        try volume.removeAttribute(name, of: inode(request))
        if hidesTrusted, name == Self.opaque {
            for other in Self.otherOpaques where try volume.attribute(other, of: inode(request)) != nil {
                try volume.removeAttribute(other, of: inode(request))
            }
        }
        reply.error(0)
    }
}
