import BlockIO
import Glibc
import Linux
import SIF
import SquashFS

/// An image that can be run, opened once: what is looked at is what is mounted.
public struct ImageFile: Sendable {
    public enum Content: Sendable {
        /// A file system at `offset` of a file, both in bytes.
        case squashFS(SquashFSImage, file: SharedDescriptor, offset: UInt64, size: UInt64)
        /// An unpacked tree.
        case directory(SharedDescriptor)
    }

    /// Absolute, links as the user gave them.
    public let path: String
    public let content: Content

    public init(path: String, content: Content) {
        self.path = path
        self.content = content
    }

    /// Bytes of decoded blocks that are kept while the image is mounted.
    public static let cacheSize = 32 << 20

    /// Opens a SIF, a bare SquashFS file or a sandbox directory.
    public static func open(_ path: String, workingDirectory: String?) throws(RuntimeError) -> ImageFile {
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
        case S_IFREG: return ImageFile(path: absolute, content: try squashFS(file, path))
        default: throw .badImage(path, why: "it is neither a file nor a directory")
        }
    }

    private static func squashFS(_ file: SharedDescriptor, _ path: String) throws(RuntimeError) -> Content {
        do {
            let source = try FileSource(file, name: path)
            guard SIFFile.isSIF(source) else {
                let image = try SquashFSImage(source, cacheSize: cacheSize)
                return .squashFS(image, file: file, offset: 0, size: source.size)
            }
            let sif = try SIFFile(reading: source)
            guard let partition = sif.primaryPartition, let nature = partition.partition else {
                throw RuntimeError.badImage(
                    path, why: "it has no primary system partition; `singularity sif list \(path)` shows what it has")
            }
            try check(nature.fileSystem, nature.architecture, path)
            let slice = try SliceSource(source, offset: UInt64(partition.offset), size: UInt64(partition.size))
            let image = try SquashFSImage(slice, cacheSize: cacheSize)
            return .squashFS(image, file: file, offset: slice.offset, size: slice.size)
        } catch let error as RuntimeError { throw error } catch SquashFSError.notSquashFS {
            throw .badImage(path, why: "image format not recognized: it is neither SIF nor SquashFS")
        } catch { throw .badImage(path, why: "\(error)") }
    }

    private static func check(
        _ fileSystem: FileSystemType, _ architecture: Architecture, _ path: String
    ) throws(RuntimeError) {
        switch fileSystem {
        case .squashFS: break
        case .encryptedSquashFS, .gocryptfsSquashFS:
            throw .badImage(path, why: "it is encrypted, which this version cannot open")
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
