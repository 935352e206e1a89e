import CLinux
import Glibc
import Linux
import Messages
import SquashFS

/// An unpacked copy of an image, kept beside the other caches, for hosts that let nobody mount one.
struct ExtractedImage {
    private let image: SquashFSImage
    private let log: Log
    /// Paths of files with several names, by inode number.
    private var linked: [UInt32: RawPath] = [:]

    /// The copy's directory; made where it is not there yet.
    /// - Parameters:
    ///   - file: of the image: what identifies it.
    ///   - folder: of all copies.
    static func directory(
        of image: SquashFSImage, file: CInt, offset: UInt64, in folder: String, _ log: Log
    ) throws -> String {
        let status = try Files.status(file, name: image.name)
        let name =
            "\(status.st_dev)-\(status.st_ino)-\(offset)-\(status.st_size)-\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
        let target = "\(folder)/\(name)"
        try Files.makeDirectories(folder, mode: 0o700)
        // Several ranks of a job may start at once: one unpacks, the others wait.
        _ = try Lease.makeOnce(target + ".lease", isThere: { Files.isDirectory(target) }) { lease in
            for old in try Files.entries(folder) where old.hasPrefix(name + ".part") { Files.removeTree("\(folder)/\(old)") }
            let part = "\(target).part\(getpid())"
            do {
                var copy = ExtractedImage(image: image, log: log)
                try copy.extractAll(to: part) { lease.renew() }
                guard rename(part, target) == 0 else { throw SystemError.last("rename to \(target)") }
            } catch {
                Files.removeTree(part)
                throw error
            }
        }
        return target
    }

    private init(image: SquashFSImage, log: Log) {
        self.image = image
        self.log = log
    }

    private mutating func extractAll(to path: String, progress: () -> Void) throws {
        let root = try image.inode(image.root)
        guard mkdir(path, 0o700) == 0 else { throw SystemError.last("mkdir \(path)") }
        // Without recursion: the depth of an image is not ours to choose.
        var pending = [(inode: root, path: RawPath(path))]
        var modes: [(path: RawPath, mode: mode_t)] = []
        while let (inode, folder) = pending.popLast() {
            progress()
            // A directory that contains itself would never end.
            guard modes.count <= image.superblock.inodeCount else {
                throw RuntimeError.badImage(image.name, why: "its directories contain each other")
            }
            modes.append((folder, mode_t(inode.mode & 0o1777)))
            for entry in try image.entries(of: inode) {
                let child = try image.inode(entry.inode)
                let place = folder.appending(entry.name)
                if case .directory = child.content {
                    guard place.withCString({ mkdir($0, 0o700) }) == 0 else { throw SystemError.last("mkdir \(place)") }
                    pending.append((child, place))
                } else {
                    try extract(child, to: place)
                }
            }
        }
        for (folder, mode) in modes.reversed() { folder.withCString { _ = chmod($0, mode | 0o500) } }
    }

    private mutating func extract(_ inode: Inode, to path: RawPath) throws {
        if inode.linkCount > 1 {
            if let first = linked[inode.number] {
                guard first.withCString({ old in path.withCString { link(old, $0) } }) == 0 else { throw SystemError.last("link \(path)") }
                return
            }
            linked[inode.number] = path
        }
        switch inode.content {
        case .symlink(let target):
            let made = RawPath(bytes: target).withCString { target in path.withCString { symlink(target, $0) } }
            guard made == 0 else { throw SystemError.last("link \(path)") }
        case .file(let layout):
            let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
            var buffer = [UInt8](repeating: 0, count: 1 << 20)
            var position: UInt64 = 0
            while position < layout.size {
                let count = try buffer.withUnsafeMutableBytes { try image.read(layout, at: position, into: $0) }
                guard count > 0 else { break }
                try buffer.withUnsafeBytes {
                    try Files.writeAll(UnsafeRawBufferPointer(rebasing: $0[..<count]), to: file.rawValue, name: "\(path)")
                }
                position += UInt64(count)
            }
            // The copy is the user's own: bits that would give rights to others have no meaning in it.
            fchmod(file.rawValue, mode_t(inode.mode & 0o777) | 0o400)
        case .fifo: path.withCString { _ = mkfifo($0, mode_t(inode.mode & 0o777)) }
        // Devices cannot be made without root, and sockets have no meaning without their program.
        case .blockDevice, .characterDevice, .socket, .directory: break
        }
    }
}
