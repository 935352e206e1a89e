import BlockIO
import Crypto
import Glibc
import ImageTree
import Linux
import SquashFS

/// Which images the files of a sandbox were unpacked from, so that those that nobody has changed since need not be compressed
/// again when an image is made of it.
///
/// A file is the same as long as its inode number, size and change time (ctime) are: no program can set the last one. An image is
/// the same as long as its times are. What has been changed, copied or restored is compressed as ever.
struct SandboxOrigins: Sendable {
    private let device: UInt64
    private let images: [SquashFSImage?]
    private let files: [UInt64: Record]

    /// A file, and where its bytes are in an image.
    private struct Record: Sendable {
        var mark: SandboxSink.Mark
        var image: Int
        var layout: FileLayout
    }

    private static let magic = Array("SANDBOX1".utf8)

    /// Where the record of a sandbox is: it goes with the directory when it is renamed.
    private static func path(_ folder: String, _ root: stat) -> String { "\(folder)/\(root.st_dev)-\(root.st_ino)" }

    // MARK: Reading

    /// What is known of a directory; nil where that is nothing.
    init?(of sandbox: String, in folder: String) {
        guard Self.hasExactTimes(sandbox), let root = Files.status(sandbox) else { return nil }
        let path = Self.path(folder, root)
        guard let bytes = try? Files.read(path, limit: 1 << 30), bytes.count > SHA256.byteCount,
            SHA256.hash(data: bytes.dropLast(SHA256.byteCount)).elementsEqual(bytes.suffix(SHA256.byteCount)),
            let (images, files) = try? Self.parse(Array(bytes.dropLast(SHA256.byteCount)))
        else { return nil }
        // It is kept for as long as it is used.
        utimes(path, nil)
        guard images.contains(where: { $0 != nil }) else { return nil }
        device = UInt64(root.st_dev)
        (self.images, self.files) = (images, files)
    }

    private static func parse(_ bytes: [UInt8]) throws -> ([SquashFSImage?], [UInt64: Record]) {
        let span = bytes.span.bytes
        var cursor = Cursor()
        guard try cursor.read(count: magic.count, from: span) == magic else { throw TruncatedError(offset: 0, needed: magic.count) }
        var images: [SquashFSImage?] = []
        for _ in 0..<(try cursor.read(UInt32.self, from: span)) {
            let file = ImageFileMark(
                path: RawText.string(try cursor.read(count: Int(try cursor.read(UInt32.self, from: span)), from: span)[...]),
                identity: try (0..<7).map { _ in try cursor.read(Int64.self, from: span) }, offset: try cursor.read(from: span),
                size: try cursor.read(from: span))
            images.append(file.open())
        }
        var files: [UInt64: Record] = [:]
        for _ in 0..<(try cursor.read(UInt64.self, from: span)) {
            let mark = SandboxSink.Mark(
                inode: try cursor.read(from: span), size: try cursor.read(from: span), seconds: try cursor.read(from: span),
                nanoseconds: try cursor.read(from: span))
            let image = Int(try cursor.read(UInt32.self, from: span))
            let start = try cursor.read(UInt64.self, from: span)
            let fragment = try cursor.read(UInt32.self, from: span)
            let offset = try cursor.read(UInt32.self, from: span)
            let count = try cursor.read(UInt32.self, from: span)
            var blocks: [BlockWord] = []
            for _ in 0..<count { blocks.append(BlockWord(rawValue: try cursor.read(from: span))) }
            files[mark.inode] = Record(
                mark: mark, image: image,
                layout: FileLayout(
                    start: start, size: mark.size, blocks: blocks, fragment: fragment == .max ? nil : fragment, fragmentOffset: offset))
        }
        return (images, files)
    }

    /// How the blocks are compressed that can be taken over.
    var format: (superblock: Superblock, blockSize: Int)? {
        images.lazy.compactMap { $0 }.first.map { ($0.superblock, $0.blockSize) }
    }

    /// The bytes of a file of the sandbox, where they are those of an image.
    /// - Parameter status: of the file now.
    func content(_ status: stat) -> FileContent? {
        guard UInt64(status.st_dev) == device, let record = files[UInt64(status.st_ino)], record.mark == SandboxSink.Mark(status),
            images.indices.contains(record.image), let image = images[record.image]
        else { return nil }
        return .image(image, record.layout)
    }

    // MARK: Writing

    /// Days that what nobody has used is kept.
    private static let patience = 60

    /// Remembers what a sandbox was made of. Where it cannot be remembered, the next image takes longer to make.
    /// - Parameters:
    ///   - files: that a sink has written.
    ///   - excluded: a directory whose images are removed after the build.
    static func remember(_ files: [SandboxSink.Unpacked], of sandbox: String, in folder: String, excluding excluded: String) {
        guard hasExactTimes(sandbox), let root = Files.status(sandbox) else { return }
        var numbers: [ObjectIdentifier: UInt32?] = [:]
        var images: [UInt8] = []
        var imageCount: UInt32 = 0
        var records: [UInt8] = []
        var count: UInt64 = 0
        for file in files {
            let key = ObjectIdentifier(file.image)
            if numbers[key] == nil {
                let mark = ImageFileMark(file.image)
                let isKept = mark.map { !$0.path.hasPrefix(excluded + "/") } ?? false
                numbers[key] = .some(isKept ? imageCount : nil)
                if let mark, isKept {
                    images += mark.bytes
                    imageCount += 1
                }
            }
            guard let number = numbers[key] ?? nil, file.mark.size == file.layout.size else { continue }
            records.append(littleEndian: file.mark.inode)
            records.append(littleEndian: file.mark.size)
            records.append(littleEndian: file.mark.seconds)
            records.append(littleEndian: file.mark.nanoseconds)
            records.append(littleEndian: number)
            records.append(littleEndian: file.layout.start)
            records.append(littleEndian: file.layout.fragment ?? .max)
            records.append(littleEndian: file.layout.fragmentOffset)
            records.append(littleEndian: UInt32(file.layout.blocks.count))
            for word in file.layout.blocks { records.append(littleEndian: word.rawValue) }
            count += 1
        }
        guard count > 0 else { return }
        var bytes = magic
        bytes.append(littleEndian: imageCount)
        bytes += images
        bytes.append(littleEndian: count)
        bytes += records
        bytes += SHA256.hash(data: bytes)
        waitForLaterTimes(than: files)
        do {
            try Files.makeDirectories(folder, mode: 0o700)
            removeOld(in: folder)
            try Files.replace(path(folder, root), with: bytes, mode: 0o600)
        } catch { return }
    }

    /// Whether the file system gives each change another time, and of the clock of this host.
    private static func hasExactTimes(_ path: String) -> Bool {
        // ext4, XFS, btrfs, tmpfs, f2fs, bcachefs, ZFS, overlayfs
        [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1, 0x794c_7630]
            .contains(Files.fileSystemType(path))
    }

    /// File systems' times go on with the kernel's ticks: who changes a file within the one in which it was made must not be
    /// overlooked. Nobody can before the sandbox has its name.
    private static func waitForLaterTimes(than files: [SandboxSink.Unpacked]) {
        guard let newest = files.map({ ($0.mark.seconds, $0.mark.nanoseconds) }).max(by: <) else { return }
        for _ in 0..<50 {
            var now = timespec()
            clock_gettime(CLOCK_REALTIME_COARSE, &now)
            if (Int64(now.tv_sec), UInt32(now.tv_nsec)) > newest { return }
            usleep(1000)
        }
    }

    private static func removeOld(in folder: String) {
        for name in (try? Files.entries(folder)) ?? [] {
            let path = "\(folder)/\(name)"
            if let status = Files.status(path, followLinks: false), time(nil) - status.st_mtim.tv_sec > patience * 86400 { unlink(path) }
        }
    }
}

/// An image file, and the place of a file system in it.
private struct ImageFileMark {
    var path: String
    /// Device, inode, size, and the two times in seconds and nanoseconds.
    var identity: [Int64]
    /// Bytes.
    var offset: UInt64
    var size: UInt64

    init(path: String, identity: [Int64], offset: UInt64, size: UInt64) {
        (self.path, self.identity, self.offset, self.size) = (path, identity, offset, size)
    }

    /// Nil for what is not in a file with a name.
    init?(_ image: SquashFSImage) {
        guard let (descriptor, offset) = image.source.filePosition, let path = Files.readLink("/proc/self/fd/\(descriptor)"),
            let identity = Self.identity(try? Files.status(descriptor, name: path)), identity == Self.identity(Files.status(path))
        else { return nil }
        self.init(path: path, identity: identity, offset: offset, size: image.source.size)
    }

    private static func identity(_ status: stat?) -> [Int64]? {
        guard let status, status.st_mode & S_IFMT == S_IFREG else { return nil }
        return [
            Int64(bitPattern: UInt64(status.st_dev)), Int64(bitPattern: UInt64(status.st_ino)), Int64(status.st_size),
            Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec), Int64(status.st_ctim.tv_sec), Int64(status.st_ctim.tv_nsec),
        ]
    }

    var bytes: [UInt8] {
        let name = RawText.bytes(path)
        var out: [UInt8] = []
        out.append(littleEndian: UInt32(name.count))
        out += name
        for number in identity { out.append(littleEndian: number) }
        out.append(littleEndian: offset)
        out.append(littleEndian: size)
        return out
    }

    /// Nil where it is not there any more, or has been changed.
    func open() -> SquashFSImage? {
        guard let file = try? FileSource(path: path),
            Self.identity(try? Files.status(file.descriptor.rawValue, name: path)) == identity,
            let part = try? SliceSource(file, offset: offset, size: size)
        else { return nil }
        return try? SquashFSImage(part)
    }
}
