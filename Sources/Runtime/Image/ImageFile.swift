import BlockIO
import Encryption
import Glibc
import Linux
import SIF
import SquashFS

/// An image that can be run, opened once: what is looked at is what is mounted.
public struct ImageFile: Sendable {
    public enum Content: Sendable {
        /// A file system at `offset` of a file, both in bytes. Where it is encrypted, only the image knows how to read it.
        case squashFS(SquashFSImage, file: SharedDescriptor, offset: UInt64, size: UInt64)
        /// An unpacked tree.
        case directory(SharedDescriptor)
        /// An ext2, ext3 or ext4 file system.
        case ext(ExtPlace)
    }

    /// What kinds of files there are, as the configuration tells them apart.
    public enum Container: String, Sendable {
        case sif
        case squashfs
        case extfs
        case dir
    }

    /// Absolute, links as the user gave them.
    public let path: String
    public let content: Content
    public let container: Container
    /// Overlay partitions of a SIF, in their order.
    public private(set) var overlays: [EmbeddedOverlay]
    /// The SIF that the content is in, as it was read from the open file.
    public let sif: OpenedSIF?

    /// What stands in the file are not the image's own bytes.
    public var isEncrypted: Bool {
        if case .ext(let place) = content { return place.encryption != .none }
        if case .squashFS(let image, _, _, _) = content { return image.source.filePosition == nil }
        return false
    }

    /// A SIF and the file that it was read from.
    public struct OpenedSIF: Sendable {
        public let file: SIFFile
        public let source: FileSource
    }

    /// An overlay partition: the number of the object, and whether it could be written to.
    public struct EmbeddedOverlay: Sendable, Equatable {
        public var object: UInt32
        public var isWritable: Bool
    }

    public init(
        path: String, content: Content, container: Container = .dir, overlays: [EmbeddedOverlay] = [], sif: OpenedSIF? = nil
    ) {
        self.path = path
        self.content = content
        self.container = container
        self.overlays = overlays
        self.sif = sif
    }

    /// The same image with only some of its overlay partitions.
    func with(overlays: [EmbeddedOverlay]) -> ImageFile {
        var image = self
        image.overlays = overlays
        return image
    }

    /// Bytes of decoded blocks that are kept while the image is mounted.
    public static let cacheSize = 32 << 20

    /// Opens a SIF, a bare SquashFS file or a sandbox directory.
    /// - Parameter keys: what opens an encrypted image.
    public static func open(_ path: String, workingDirectory: String?, keys: ImageKeys = .none) throws(RuntimeError) -> ImageFile {
        let absolute = path.hasPrefix("/") ? path : "\(workingDirectory ?? "")/\(path)"
        // O_NONBLOCK: a FIFO must not be waited for.
        let file: SharedDescriptor
        do { file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)) } catch {
            if error.errno == ENOENT { throw .noImage(path) }
            throw .badImage(path, why: error.reason)
        }
        var status = stat()
        guard fstat(file.rawValue, &status) == 0 else { throw .badImage(path, why: SystemError.last("stat").reason) }
        switch status.st_mode & S_IFMT {
        case S_IFDIR:
            guard Files.resolved(path) != "/" else { throw .badImage(path, why: "/ cannot be used as a container") }
            return ImageFile(path: absolute, content: .directory(file))
        case S_IFREG: return try regular(file, absolute, path, keys) { $0.primaryPartition }
        default: throw .badImage(path, why: "it is neither a file nor a directory")
        }
    }

    /// Opens what a bind with `image-src` or an overlay shows: an image of its own, or an object of a SIF.
    /// - Parameter select: the object.
    static func openPart(
        _ path: String, keys: ImageKeys, select: (SIFFile) -> Descriptor?
    ) throws(RuntimeError) -> ImageFile {
        let file: SharedDescriptor
        do { file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)) } catch {
            throw .badImage(path, why: error.reason)
        }
        guard let status = try? Files.status(file.rawValue, name: path), status.st_mode & S_IFMT == S_IFREG else {
            throw .badImage(path, why: "it is not a file")
        }
        return try regular(file, Files.resolved(path) ?? path, path, keys, select: select)
    }

    /// Opens a data container, or the root file system of an image that is used as one.
    public static func openData(_ path: String, object: UInt32? = nil, keys: ImageKeys) throws(RuntimeError) -> ImageFile {
        try openPart(path, keys: keys) { sif in
            if let object { return sif.descriptors.first { $0.id == object } }
            return sif.descriptors.first { $0.partition?.type == .data } ?? sif.primaryPartition
        }
    }

    private static func regular(
        _ file: SharedDescriptor, _ absolute: String, _ path: String, _ keys: ImageKeys, select: (SIFFile) -> Descriptor?
    ) throws(RuntimeError) -> ImageFile {
        do {
            let source = try FileSource(file, name: path)
            guard SIFFile.isSIF(source) else {
                let encryption = try ExtPlace.Encryption(of: source, keys)
                if encryption != .none {
                    let place = ExtPlace(path: absolute, offset: 0, size: source.size, encryption: encryption)
                    return ImageFile(path: absolute, content: .ext(place), container: .extfs)
                }
                if let offset = extOffset(file.rawValue) {
                    return ImageFile(path: absolute, content: .ext(ExtPlace(path: absolute, offset: offset, size: 0)), container: .extfs)
                }
                let image = try SquashFSImage(source, cacheSize: cacheSize)
                return ImageFile(
                    path: absolute, content: .squashFS(image, file: file, offset: 0, size: source.size), container: .squashfs)
            }
            let sif = try SIFFile(reading: source)
            guard let partition = select(sif), let nature = partition.partition else {
                throw RuntimeError.badImage(
                    path, why: "it has no partition of the kind that is wanted; `singularity sif list \(path)` shows what it has")
            }
            if nature.fileSystem == .ext3 {
                let place = ExtPlace(path: absolute, offset: UInt64(partition.offset), size: UInt64(partition.size))
                return ImageFile(path: absolute, content: .ext(place), container: .sif)
            }
            let slice = try SliceSource(source, offset: UInt64(partition.offset), size: UInt64(partition.size))
            let encryption = partition.isWritablePartition ? try ExtPlace.Encryption(of: slice, keys) : .none
            if encryption != .none {
                let place = ExtPlace(path: absolute, offset: slice.offset, size: slice.size, encryption: encryption)
                return ImageFile(path: absolute, content: .ext(place), container: .sif)
            }
            try check(nature.fileSystem, nature.architecture, path)
            let plain: any BlockSource =
                nature.fileSystem == .squashFS ? slice : try EncryptedPartition.open(partition, of: sif, source, try keys.load())
            let image = try SquashFSImage(plain, cacheSize: cacheSize)
            return ImageFile(
                path: absolute, content: .squashFS(image, file: file, offset: slice.offset, size: slice.size), container: .sif,
                overlays: sif.overlayPartitions.map { EmbeddedOverlay(object: $0.id, isWritable: $0.isWritablePartition) },
                sif: OpenedSIF(file: sif, source: source))
        } catch let error as RuntimeError { throw error } catch SquashFSError.notSquashFS {
            throw .badImage(path, why: "image format not recognized: it is neither SIF, SquashFS nor ext3")
        } catch { throw .badImage(path, why: "\(error)") }
    }

    /// Where an ext file system begins: at once, or behind the line that runs it in images of Singularity 2.x.
    private static func extOffset(_ file: CInt) -> UInt64? {
        let launch = Array("#!/usr/bin/env run-singularity\n".utf8)
        var head = [UInt8](repeating: 0, count: 2048)
        let count = head.withUnsafeMutableBytes { pread(file, $0.baseAddress, $0.count, 0) }
        guard count == head.count else { return nil }
        // The superblock is at 1024, its magic number 56 bytes behind ("ext4 Data Structures").
        for offset in [0, launch.count] where head[(offset + 1080)...].starts(with: [0x53, 0xef]) {
            if offset == 0 || head.starts(with: launch) { return UInt64(offset) }
        }
        return nil
    }

    private static func check(
        _ fileSystem: FileSystemType, _ architecture: Architecture, _ path: String
    ) throws(RuntimeError) {
        switch fileSystem {
        case .squashFS, .encryptedSquashFS, .gocryptfsSquashFS: break
        default: throw .badImage(path, why: "its root file system is of the type \(fileSystem.name), which cannot be run")
        }
        let compatible =
            architecture == .host || architecture == .unknown || (architecture.name == "386" && Architecture.host.name == "amd64")
        guard compatible || emulates(architecture) else {
            throw .badImage(
                path,
                why:
                    "the image's architecture (\(architecture)) could not run on the host's (\(Architecture.host)); pull it with --arch \(Architecture.host), or install qemu-user-static"
            )
        }
    }

    /// Whether the kernel hands programs of an architecture to an emulator (binfmt_misc).
    private static func emulates(_ architecture: Architecture) -> Bool {
        let names = ["arm64": "aarch64", "amd64": "x86_64", "386": "i386"]
        return Files.status("/proc/sys/fs/binfmt_misc/qemu-\(names[architecture.name] ?? architecture.name)") != nil
    }
}
