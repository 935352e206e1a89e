import BlockIO
import CLinux
import Glibc
import Linux
import SquashFS

/// Writes a tree as a directory of the host.
///
/// An ordinary user's sandbox has files of its owner only, whose directories the owner can change and remove; who they
/// belong to in an image stands in their ``OwnerRecord``.
public final class SandboxSink {
    private let root: RawPath
    private let isRoot: Bool
    private let latestTime: Int64?
    private let widensFiles: Bool
    private var written: [ObjectIdentifier: RawPath] = [:]
    private var contents: [(content: FileContent, path: RawPath, attributes: Attributes)] = []
    /// Where the files of each directory end in ``contents``: two threads that make files in one directory wait for one
    /// another.
    private var ends: [Int] = []
    private var hardLinks: [(first: RawPath, path: RawPath)] = []
    private var directories: [(path: RawPath, attributes: Attributes)] = []
    /// Guards ``lacksRecords`` and ``marks``, which several threads may set.
    private let lock = Monitor()
    private var lacksRecords = false
    private var marks: [UInt64: Unpacked] = [:]

    /// What a file of a directory has as long as it is not changed.
    public struct Mark: Equatable, Sendable {
        public var inode: UInt64
        /// Bytes.
        public var size: UInt64
        /// Of the last change (ctime), which no program can set: Unix seconds.
        public var seconds: Int64
        public var nanoseconds: UInt32

        public init(inode: UInt64, size: UInt64, seconds: Int64, nanoseconds: UInt32) {
            (self.inode, self.size, self.seconds, self.nanoseconds) = (inode, size, seconds, nanoseconds)
        }

        public init(_ status: stat) {
            self.init(
                inode: UInt64(status.st_ino), size: UInt64(status.st_size), seconds: Int64(status.st_ctim.tv_sec),
                nanoseconds: UInt32(status.st_ctim.tv_nsec))
        }
    }

    /// A file whose bytes came from an image.
    public struct Unpacked: Sendable {
        public var mark: Mark
        public var image: SquashFSImage
        public var layout: FileLayout
    }

    /// The files that came from images, in no order.
    public var unpacked: some Collection<Unpacked> { marks.values }

    /// - Parameters:
    ///   - path: a directory that is not there yet.
    ///   - asRoot: owners and devices can be set.
    ///   - widensFiles: files too are made readable and writable for their owner.
    public init(_ path: String, asRoot: Bool, latestTime: Int64?, widensFiles: Bool = false) {
        self.widensFiles = widensFiles
        root = RawPath(path)
        isRoot = asRoot
        self.latestTime = latestTime
    }

    /// Some owner could not be recorded, as the file system has no attributes.
    public var hasLostOwners: Bool { lacksRecords }

    /// Writes the tree.
    /// - Parameter threads: that decompress and write contents.
    public func write(_ tree: Node, threads: Int) throws {
        guard root.withCString({ mkdir($0, 0o700) }) == 0 else { throw SystemError.last("mkdir \(root)") }
        var pending = [(tree, root)]
        while let (node, path) = pending.popLast() {
            directories.append((path, node.attributes))
            guard let directory = node.directory else { continue }
            for (name, child) in directory.sorted {
                let place = path.appending(name)
                if child.isDirectory {
                    guard place.withCString({ mkdir($0, 0o700) }) == 0 else { throw SystemError.last("mkdir \(place)") }
                    pending.append((child, place))
                } else {
                    try write(child, place)
                }
            }
            if contents.count > ends.last ?? 0 { ends.append(contents.count) }
        }
        try writeContents(threads: threads)
        for (first, path) in hardLinks where first.withCString({ first in path.withCString { link(first, $0) } }) != 0 {
            throw SystemError.last("link \(path)")
        }
        for (first, _) in hardLinks {
            guard let status = Files.status(first) else { continue }
            marks[UInt64(status.st_ino)]?.mark = Mark(status)
        }
        // Times and modes of directories last: what is made in them changes the one, and may need the other.
        for (path, attributes) in directories.reversed() { finish(path, attributes, isDirectory: true) }
    }

    private func write(_ node: Node, _ path: RawPath) throws {
        let key = ObjectIdentifier(node)
        if let first = written[key] { return hardLinks.append((first, path)) }
        written[key] = path
        switch node.content {
        case .file(let content): contents.append((content, path, node.attributes))
        case .symlink(let target):
            guard
                (target + [0]).withUnsafeBytes({ target in
                    path.withCString { symlink(target.bindMemory(to: CChar.self).baseAddress ?? $0, $0) }
                }) == 0
            else { throw SystemError.last("link \(path)") }
            if isRoot { _ = path.withCString { lchown($0, node.attributes.uid, node.attributes.gid) } }
            setTime(path, node.attributes, isLink: true)
        case .fifo:
            guard path.withCString({ mkfifo($0, mode_t(node.attributes.mode)) }) == 0 else { throw SystemError.last("mkfifo \(path)") }
            finish(path, node.attributes, isDirectory: false)
        case .blockDevice(let number): try makeDevice(path, node.attributes, number, isBlock: true)
        case .characterDevice(let number): try makeDevice(path, node.attributes, number, isBlock: false)
        // A socket has no meaning without its program.
        case .socket, .directory: break
        }
    }

    private func makeDevice(_ path: RawPath, _ attributes: Attributes, _ number: UInt32, isBlock: Bool) throws {
        let device = OwnerRecord.Device(isBlock: isBlock, major: number >> 8 & 0xfff, minor: number & 0xff | number >> 12 & 0xfff00)
        if isRoot {
            let kind: mode_t = isBlock ? 0o060000 : 0o020000
            guard path.withCString({ mknod($0, kind | mode_t(attributes.mode), dev_t(device.number)) }) == 0 else {
                throw SystemError.last("mknod \(path)")
            }
            return finish(path, attributes, isDirectory: false)
        }
        let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        _ = file.rawValue
        finish(path, attributes, isDirectory: false, device: device)
    }

    // MARK: Contents

    private func writeContents(threads: Int) throws {
        let shares = max(1, min(threads, contents.count / 16))
        let board = WorkBoard(ends.count)
        nonisolated(unsafe) let sink = self
        var workers: [WorkerThread] = []
        for _ in 1..<max(2, shares) where shares > 1 {
            workers.append(try WorkerThread { sink.work(board) })
        }
        work(board)
        for worker in workers { worker.join() }
        if let failure = board.failure { throw failure }
    }

    private func work(_ board: WorkBoard) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        while let index = board.next() {
            for file in contents[(index > 0 ? ends[index - 1] : 0)..<ends[index]] {
                do { try write(file.content, file.path, file.attributes, buffer) } catch {
                    board.fail(error)
                    return
                }
            }
        }
    }

    private func write(
        _ content: FileContent, _ path: RawPath, _ attributes: Attributes, _ buffer: UnsafeMutableRawBufferPointer
    ) throws {
        var attributes = attributes
        if widensFiles { attributes.mode |= 0o600 }
        let mode = mode_t(attributes.mode) | (isRoot ? 0 : 0o200)
        let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode & 0o777)
        if let stream = try content.stream() {
            while true {
                let count = try stream.read(into: buffer)
                if count == 0 { break }
                try Files.writeAll(UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: file.rawValue, name: "\(path)")
            }
        }
        if isRoot, attributes.uid != 0 || attributes.gid != 0 { fchown(file.rawValue, attributes.uid, attributes.gid) }
        for attribute in attributes.xattrs { fsetxattr(file.rawValue, keptName(attribute), attribute.value, attribute.value.count, 0) }
        if !isRoot, attributes.uid != 0 || attributes.gid != 0 {
            record(OwnerRecord(uid: attributes.uid, gid: attributes.gid), path)
        }
        // Last, as a file that forbids its owner to write takes no attribute.
        // The umask may have taken bits that others can have from the mode of open(2).
        if mode_t(attributes.mode) != mode & 0o755 { fchmod(file.rawValue, mode_t(attributes.mode)) }
        let time = timespec(tv_sec: Int(attributes.modificationTime), tv_nsec: 0)
        withUnsafePointer(to: (time, time)) {
            $0.withMemoryRebound(to: timespec.self, capacity: 2) { _ = futimens(file.rawValue, $0) }
        }
        if case .image(let image, let layout) = content {
            let mark = Mark(try Files.status(file.rawValue, name: "\(path)"))
            lock.locked { marks[mark.inode] = Unpacked(mark: mark, image: image, layout: layout) }
        }
    }

    /// The name under which an attribute is kept: an ordinary user may set those of users only.
    private func keptName(_ attribute: Xattr) -> String {
        isRoot || attribute.name.hasPrefix("user.") ? attribute.name : HostTree.keptPrefix + attribute.name
    }

    private func record(_ record: OwnerRecord, _ path: RawPath) {
        if path.withCString({ record.write($0) }) != 0 { lock.locked { lacksRecords = true } }
    }

    private func finish(_ path: RawPath, _ attributes: Attributes, isDirectory: Bool, device: OwnerRecord.Device? = nil) {
        if isRoot { _ = path.withCString { lchown($0, attributes.uid, attributes.gid) } }
        for attribute in attributes.xattrs {
            _ = path.withCString { lsetxattr($0, keptName(attribute), attribute.value, attribute.value.count, 0) }
        }
        var mode = attributes.mode
        var record = OwnerRecord(uid: attributes.uid, gid: attributes.gid, device: device)
        if !isRoot && isDirectory && mode & 0o700 != 0o700 {
            record.mode = mode
            mode |= 0o700
        }
        if !isRoot && !record.isDefault { self.record(record, path) }
        _ = path.withCString { chmod($0, mode_t(mode)) }
        setTime(path, attributes, isLink: false)
    }

    private func setTime(_ path: RawPath, _ attributes: Attributes, isLink: Bool) {
        let seconds = min(attributes.modificationTime, latestTime ?? .max)
        let time = timespec(tv_sec: Int(seconds), tv_nsec: 0)
        withUnsafePointer(to: (time, time)) {
            $0.withMemoryRebound(to: timespec.self, capacity: 2) {
                let times = $0
                _ = path.withCString { utimensat(AT_FDCWD, $0, times, isLink ? AT_SYMLINK_NOFOLLOW : 0) }
            }
        }
    }
}

/// Numbers of pieces of work that threads take one after the other.
///
/// `@unchecked Sendable`: all state is behind ``lock``.
private final class WorkBoard: @unchecked Sendable {
    private let lock = Monitor()
    private let count: Int
    private var index = 0
    private var error: (any Error)?

    init(_ count: Int) { self.count = count }

    func next() -> Int? {
        lock.locked {
            guard error == nil, index < count else { return nil }
            index += 1
            return index - 1
        }
    }

    func fail(_ failure: any Error) { lock.locked { error = error ?? failure } }
    var failure: (any Error)? { lock.locked { error } }
}

extension FileContent {
    /// The bytes in order; nil for an empty file.
    public func stream() throws -> (any ByteStream)? {
        switch self {
        case .empty: return nil
        case .bytes(let bytes): return MemoryStream(bytes)
        case .image(let image, let layout): return ImageFileStream(image, layout)
        case .foreign(let file): return try file.open()
        case .host(let file): return FileStream(try OwnedDescriptor.open(file.path), name: "\(file.path)")
        case .stored: throw TreeError.notReadable
        }
    }
}
