import CLinux
import ExtFS
import Glibc
import Linux

/// Shows the bytes of a volume as the only file of a file system, for programs that want a file: e2fsck(8), resize2fs(8).
///
/// One thread; the kernel keeps nothing back from being written.
public struct VolumeFileServer {
    private let storage: any VolumeStorage
    /// Bytes of the file.
    private let size: UInt64

    /// Name of the file.
    public static let fileName = "volume"

    private static let root: UInt64 = 1
    private static let file: UInt64 = 2
    private static let largestTransfer = 128 << 10
    /// Seconds that the kernel may keep what it was told: nothing changes.
    private static let validity: UInt64 = 1 << 30

    public init(_ storage: any VolumeStorage, size: UInt64) {
        self.storage = storage
        self.size = size
    }

    /// Answers requests until the file system is unmounted.
    /// - Parameter device: an open /dev/fuse.
    public func serve(_ device: CInt) {
        let input = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.largestTransfer + (64 << 10), alignment: 4096)
        let output = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.largestTransfer, alignment: 4096)
        defer {
            input.deallocate()
            output.deallocate()
        }
        var reader = RequestReader(device, mayLook: false)
        while true {
            let count = reader.next(input)
            if count < 0 { return }
            guard let request = Request(UnsafeRawBufferPointer(rebasing: input[..<count])) else { continue }
            answer(request, Reply(device: device, unique: request.header.unique), output)
        }
    }

    private func answer(_ request: Request, _ reply: Reply, _ buffer: UnsafeMutableRawBufferPointer) {
        switch fuse_opcode(request.header.opcode) {
        case FUSE_INIT: initialize(request, reply)
        case FUSE_LOOKUP:
            guard request.header.nodeid == Self.root, request.name() == Array(Self.fileName.utf8) else { return reply.error(ENOENT) }
            var out = fuse_entry_out()
            (out.nodeid, out.entry_valid, out.attr_valid) = (Self.file, Self.validity, Self.validity)
            out.attr = attributes(Self.file)
            reply.send(out)
        // A program that sets the size it has asked for, or times, is told that it has them.
        case FUSE_GETATTR, FUSE_SETATTR:
            var out = fuse_attr_out()
            out.attr_valid = Self.validity
            out.attr = attributes(request.header.nodeid)
            reply.send(out)
        case FUSE_READ: read(request, reply, buffer)
        case FUSE_WRITE: write(request, reply)
        case FUSE_FALLOCATE: punch(request, reply)
        case FUSE_FSYNC: reply.error(storage.synchronise())
        case FUSE_FORGET, FUSE_BATCH_FORGET, FUSE_INTERRUPT: break
        case FUSE_DESTROY, FUSE_FLUSH, FUSE_RELEASE: reply.error(0)
        default: reply.error(ENOSYS)
        }
    }

    private func initialize(_ request: Request, _ reply: Reply) {
        guard let wanted = request.load(FUSEInit.self), wanted.major >= 7 else { return reply.error(EPROTO) }
        var out = fuse_init_out()
        out.major = 7
        out.minor = min(wanted.minor, 33)
        // From linux/fuse.h: big writes, no need for open, many pages.
        out.flags = wanted.flags & (1 << 5 | 1 << 17 | 1 << 22)
        out.max_write = UInt32(Self.largestTransfer)
        out.max_pages = UInt16(Self.largestTransfer / 4096)
        out.time_gran = 1
        reply.send(out)
    }

    private func attributes(_ node: UInt64) -> fuse_attr {
        var attr = fuse_attr()
        attr.ino = node
        attr.mode = node == Self.file ? S_IFREG | 0o600 : S_IFDIR | 0o700
        attr.nlink = 1
        (attr.uid, attr.gid) = (getuid(), getgid())
        attr.size = node == Self.file ? size : 0
        attr.blksize = 4096
        return attr
    }

    private func read(_ request: Request, _ reply: Reply, _ buffer: UnsafeMutableRawBufferPointer) {
        guard let wanted = request.load(fuse_read_in.self), request.header.nodeid == Self.file else { return reply.error(EINVAL) }
        let count = wanted.offset < size ? min(Int(wanted.size), buffer.count, Int(clamping: size - wanted.offset)) : 0
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        let error = storage.read(at: wanted.offset, part)
        if error != 0 { return reply.error(error) }
        reply.send(UnsafeRawBufferPointer(part))
    }

    private func write(_ request: Request, _ reply: Reply) {
        guard let wanted = request.load(fuse_write_in.self), request.header.nodeid == Self.file else { return reply.error(EINVAL) }
        let head = MemoryLayout<fuse_write_in>.size
        guard head + Int(wanted.size) <= request.body.count else { return reply.error(EINVAL) }
        guard wanted.offset <= size, UInt64(wanted.size) <= size - wanted.offset else { return reply.error(EFBIG) }
        let error = storage.write(UnsafeRawBufferPointer(rebasing: request.body[head..<head + Int(wanted.size)]), at: wanted.offset)
        if error != 0 { return reply.error(error) }
        var out = fuse_write_out()
        out.size = wanted.size
        reply.send(out)
    }

    /// Holes are all that e2fsck makes.
    private func punch(_ request: Request, _ reply: Reply) {
        guard let wanted = request.load(fuse_fallocate_in.self), request.header.nodeid == Self.file else { return reply.error(EINVAL) }
        guard wanted.mode & 2 != 0 else { return reply.error(EOPNOTSUPP) }
        guard wanted.offset <= size else { return reply.error(0) }
        reply.error(storage.punch(at: wanted.offset, count: min(wanted.length, size - wanted.offset)))
    }
}
