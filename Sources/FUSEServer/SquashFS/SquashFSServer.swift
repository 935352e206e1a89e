import BlockIO
import CLinux
import Glibc
import Linux
import SquashFS

/// Answers the kernel's FUSE requests from a SquashFS image.
///
/// Nothing in an image changes, so the kernel may keep every name, attribute and page for as long as it likes. Nodes are
/// named by their place in the image: no table of what the kernel knows has to be kept, and nothing grows with use.
///
/// `@unchecked Sendable`: immutable while it serves but for caches, which have locks of their own.
public final class SquashFSServer: @unchecked Sendable {
    private let image: SquashFSImage
    private let ownership: Ownership
    private let files = FileCache()
    private let listings = ListingCache()
    private let ahead: DecodeAhead
    /// Set before anything is served.
    private var filler: PageFiller?
    private let hasXattrs: Bool
    private let hasRecords: Bool

    public init(_ image: SquashFSImage, ownership: Ownership) {
        self.image = image
        self.ownership = ownership
        ahead = DecodeAhead(image)
        var hasRecords = false
        if case .recorded = ownership { hasRecords = image.hasOtherOwners }
        self.hasRecords = hasRecords
        hasXattrs = image.superblock.xattrTableStart != Superblock.absent || hasRecords
    }

    /// Seconds that the kernel may keep what it was told.
    private static let validity: UInt64 = 1 << 30
    /// Bytes of the largest read that is answered in one piece.
    static let largestRead = 1 << 20
    /// Bytes of the largest request: the kernel wants room for a header and the least `max_write`, see fuse(4).
    private static let inputSize = 16 << 10

    // MARK: The loop

    /// Answers requests until the file system is unmounted.
    /// - Parameters:
    ///   - device: an open /dev/fuse.
    ///   - threads: how many serve at once.
    ///   - seesClients: process numbers in requests are those that this process sees.
    ///   - warmUp: paths whose content will be wanted first.
    ///   - begin: called when all is ready to serve, and returns once the file system is mounted: reading from the
    ///     device before that is an error. False where it will not be.
    public func serve(_ device: CInt, threads: Int, seesClients: Bool = true, warmUp: [String] = [], begin: () -> Bool) {
        // The threads are made before the mount, as the first requests are what a start waits for.
        let turn = ServingTurn()
        turn.take()
        image.beforeWaiting { turn.give() }
        ahead.start(with: warmUp)
        let filler = PageFiller(image, device: device)
        filler.start()
        self.filler = filler
        defer {
            ahead.stop()
            filler.stop()
        }
        var workers: [WorkerThread] = []
        for _ in 1..<max(2, threads) {
            // Without another thread the first one does all the work.
            guard let worker = try? WorkerThread({ [self] in loop(device, turn, seesClients) }) else { break }
            workers.append(worker)
        }
        if begin() { loop(device, turn, seesClients) } else { turn.end() }
        for worker in workers { worker.join() }
    }

    private func loop(_ device: CInt, _ turn: ServingTurn, _ seesClients: Bool) {
        let input = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.inputSize, alignment: 4096)
        let output = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.largestRead, alignment: 4096)
        var follower = ClientFollower()
        defer {
            input.deallocate()
            output.deallocate()
        }
        while turn.take() {
            let count = read(device, input.baseAddress, input.count)
            if count < 0 {
                switch errno {
                case EINTR, EAGAIN, ENOENT: continue
                default:
                    turn.end()
                    return
                }
            }
            guard let request = Request(UnsafeRawBufferPointer(rebasing: input[..<count])) else { continue }
            if seesClients { follower.follow(request.header.pid) }
            answer(request, Reply(device: device, unique: request.header.unique), output)
        }
    }

    private func answer(_ request: Request, _ reply: Reply, _ buffer: UnsafeMutableRawBufferPointer) {
        do throws(SquashFSError) {
            switch fuse_opcode(request.header.opcode) {
            case FUSE_INIT: initialize(request, reply)
            case FUSE_LOOKUP: try lookUp(request, reply)
            case FUSE_GETATTR: try attributes(request, reply)
            case FUSE_READLINK: try readLink(request, reply)
            case FUSE_READ: try readFile(request, reply, buffer)
            case FUSE_READDIR, FUSE_READDIRPLUS: try list(request, reply, buffer)
            case FUSE_GETXATTR: try getXattr(request, reply)
            case FUSE_LISTXATTR: try listXattrs(request, reply)
            case FUSE_STATFS: statistics(reply)
            case FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT: break
            // Without open and opendir the kernel need not ask, and keeps its pages from one open to the next.
            case FUSE_DESTROY: reply.error(0)
            case FUSE_WRITE, FUSE_SETATTR, FUSE_MKDIR, FUSE_UNLINK, FUSE_RMDIR, FUSE_RENAME, FUSE_RENAME2, FUSE_CREATE,
                FUSE_MKNOD, FUSE_SYMLINK, FUSE_LINK, FUSE_SETXATTR, FUSE_REMOVEXATTR:
                reply.error(EROFS)
            default: reply.error(ENOSYS)
            }
        } catch {
            // A damaged part of the image is an input/output error of whoever reads it, as with a damaged disk.
            reply.error(EIO)
        }
    }

    private func initialize(_ request: Request, _ reply: Reply) {
        guard let wanted = request.load(FUSEInit.self), wanted.major >= 7 else {
            reply.error(EPROTO)
            return
        }
        var out = fuse_init_out()
        out.major = 7
        out.minor = min(wanted.minor, 31)
        out.max_readahead = max(wanted.max_readahead, 1 << 20)
        // From linux/fuse.h: async reads, parallel lookups, big reads, cached links, readdirplus where it pays, and no
        // need for open and opendir.
        let wish: UInt32 =
            1 << 0 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 18 | 1 << 22 | 1 << 23 | 1 << 24
        out.flags = wanted.flags & wish
        out.max_background = 64
        out.congestion_threshold = 48
        out.max_write = 4096
        out.time_gran = 1_000_000_000
        out.max_pages = UInt16(Self.largestRead / 4096)
        reply.send(out)
    }

    // MARK: Names and attributes

    /// The kernel names the root 1; other nodes are their place in the image, moved by two.
    private func reference(_ node: UInt64) -> InodeReference {
        node == UInt64(FUSE_ROOT_ID) ? image.root : InodeReference(rawValue: node &- 2)
    }

    private func node(_ reference: InodeReference) -> UInt64 {
        reference == image.root ? UInt64(FUSE_ROOT_ID) : reference.rawValue + 2
    }

    private func attr(_ inode: InodeSummary) -> fuse_attr {
        var attr = fuse_attr()
        attr.ino = UInt64(inode.number)
        attr.size = inode.size
        attr.blocks = (inode.size + 511) / 512
        attr.atime = UInt64(inode.modificationTime)
        attr.mtime = attr.atime
        attr.ctime = attr.atime
        attr.mode = inode.mode
        attr.nlink = inode.linkCount
        (attr.uid, attr.gid) = ownership.shown(uid: inode.uid, gid: inode.gid)
        attr.rdev = inode.device
        attr.blksize = image.superblock.blockSize
        return attr
    }

    private func entry(_ reference: InodeReference) throws(SquashFSError) -> fuse_entry_out {
        var out = fuse_entry_out()
        out.nodeid = node(reference)
        out.entry_valid = Self.validity
        out.attr_valid = Self.validity
        out.attr = attr(try image.summary(reference))
        return out
    }

    private func lookUp(_ request: Request, _ reply: Reply) throws(SquashFSError) {
        guard let name = request.name() else { return reply.error(EINVAL) }
        let directory = try image.inode(reference(request.header.nodeid))
        guard let found = try image.entry(named: name, in: directory) else {
            // A name that is not there stays so: the kernel may remember that too.
            var out = fuse_entry_out()
            out.entry_valid = Self.validity
            return reply.send(out)
        }
        reply.send(try entry(found.inode))
    }

    private func attributes(_ request: Request, _ reply: Reply) throws(SquashFSError) {
        var out = fuse_attr_out()
        out.attr_valid = Self.validity
        out.attr = attr(try image.summary(reference(request.header.nodeid)))
        reply.send(out)
    }

    private func readLink(_ request: Request, _ reply: Reply) throws(SquashFSError) {
        guard case .symlink(let target) = try image.inode(reference(request.header.nodeid)).content else {
            return reply.error(EINVAL)
        }
        target.withUnsafeBytes { reply.send($0) }
    }

    private func statistics(_ reply: Reply) {
        var out = fuse_statfs_out()
        out.st.bsize = image.superblock.blockSize
        out.st.frsize = image.superblock.blockSize
        out.st.blocks = (image.superblock.bytesUsed + UInt64(image.superblock.blockSize) - 1) / UInt64(image.superblock.blockSize)
        out.st.files = UInt64(image.superblock.inodeCount)
        out.st.namelen = 255
        reply.send(out)
    }

    // MARK: Content

    private func readFile(
        _ request: Request, _ reply: Reply, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(SquashFSError) {
        guard let wanted = request.load(fuse_read_in.self) else { return reply.error(EINVAL) }
        guard
            let layout = try files.layout(
                request.header.nodeid,
                { () throws(SquashFSError) in
                    guard case .file(let layout) = try image.inode(reference(request.header.nodeid)).content else { return nil }
                    return layout
                })
        else { return reply.error(EISDIR) }
        let size = min(Int(wanted.size), buffer.count)
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<size])
        ahead.willRead(layout, at: wanted.offset, count: size)
        let count = try image.read(layout, at: wanted.offset, into: target)
        reply.send(UnsafeRawBufferPointer(rebasing: target[..<count]))
        filler?.didRead(request.header.nodeid, layout, at: wanted.offset, count: count)
    }

    private func list(
        _ request: Request, _ reply: Reply, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(SquashFSError) {
        guard let wanted = request.load(fuse_read_in.self) else { return reply.error(EINVAL) }
        let directory = reference(request.header.nodeid)
        let isPlus = fuse_opcode(request.header.opcode) == FUSE_READDIRPLUS
        let entries = try listings.entries(request.header.nodeid) { () throws(SquashFSError) in
            try image.entries(of: try image.inode(directory))
        }
        var writer = DirectoryWriter(
            UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(Int(wanted.size), buffer.count)]), isPlus: isPlus)
        // "." and ".." come first; the place of an entry is its number in the stored order behind them.
        var index = Int(clamping: wanted.offset)
        while index < entries.count + 2 {
            let next = UInt64(index + 1)
            let fits: Bool
            if index < 2 {
                fits = writer.add(index == 0 ? [0x2e] : [0x2e, 0x2e], inode: 1, type: UInt32(DT_DIR), next: next, entry: fuse_entry_out())
            } else {
                let item = entries[index - 2]
                let full = isPlus ? try entry(item.inode) : fuse_entry_out()
                fits = writer.add(
                    item.name, inode: UInt64(item.inodeNumber), type: Self.directoryType(item.type), next: next, entry: full)
            }
            if !fits { break }
            index += 1
        }
        reply.send(writer.bytes)
    }

    private static func directoryType(_ type: UInt16) -> UInt32 {
        switch type {
        case 1: UInt32(DT_DIR)
        case 2: UInt32(DT_REG)
        case 3: UInt32(DT_LNK)
        case 4: UInt32(DT_BLK)
        case 5: UInt32(DT_CHR)
        case 6: UInt32(DT_FIFO)
        default: UInt32(DT_SOCK)
        }
    }

    // MARK: Extended attributes

    private func getXattr(_ request: Request, _ reply: Reply) throws(SquashFSError) {
        guard hasXattrs else { return reply.error(ENOSYS) }
        guard let wanted = request.load(fuse_getxattr_in.self),
            let name = request.name(from: MemoryLayout<fuse_getxattr_in>.size)
        else { return reply.error(EINVAL) }
        let text = String(decoding: name, as: UTF8.self)
        let inode = try image.inode(reference(request.header.nodeid))
        guard let found = try xattrs(of: inode).first(where: { $0.name == text }) else { return reply.error(ENODATA) }
        send(found.value, wanted: wanted, reply)
    }

    private func listXattrs(_ request: Request, _ reply: Reply) throws(SquashFSError) {
        guard hasXattrs else { return reply.error(ENOSYS) }
        guard let wanted = request.load(fuse_getxattr_in.self) else { return reply.error(EINVAL) }
        let inode = try image.inode(reference(request.header.nodeid))
        send(try xattrs(of: inode).flatMap { Array($0.name.utf8) + [0] }, wanted: wanted, reply)
    }

    /// Those of the image, and the record of the owner where that is asked for.
    private func xattrs(of inode: Inode) throws(SquashFSError) -> [Xattr] {
        var all = try image.xattrs(of: inode)
        guard hasRecords, inode.uid != 0 || inode.gid != 0 else { return all }
        let record = OwnerRecord(uid: inode.uid, gid: inode.gid)
        all.append(Xattr(name: OwnerRecord.attribute, value: Array(record.text.utf8)))
        return all
    }

    /// A caller that gives no room asks for the size.
    private func send(_ value: [UInt8], wanted: fuse_getxattr_in, _ reply: Reply) {
        if wanted.size == 0 {
            var out = fuse_getxattr_out()
            out.size = UInt32(value.count)
            return reply.send(out)
        }
        guard value.count <= Int(wanted.size) else { return reply.error(ERANGE) }
        value.withUnsafeBytes { reply.send($0) }
    }
}
