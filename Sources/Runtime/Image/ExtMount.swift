import BlockIO
import CLinux
import Encryption
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
    /// Bytes; 0 for the rest of the file, where it is not encrypted.
    public var size: UInt64
    public var encryption: Encryption

    public enum Encryption: Sendable, Equatable {
        case none
        /// Nobody has given a key.
        case locked
        case unlocked(VolumeKey)

        /// How a file system is encrypted.
        /// - Parameters:
        ///   - source: its bytes alone.
        ///   - keys: nil where it need not be opened.
        public init(of source: any BlockSource, _ keys: ImageKeys?) throws {
            guard EncryptedVolume.begins(in: source) else {
                self = .none
                return
            }
            self = if let keys { .unlocked(try EncryptedVolume.unlock(source, try keys.load())) } else { .locked }
        }
    }

    public init(path: String, offset: UInt64, size: UInt64, encryption: Encryption = .none) {
        self.path = path
        self.offset = offset
        self.size = size
        self.encryption = encryption
    }

    /// Bytes that the file system may have.
    public var volumeSize: UInt64 { encryption == .none ? size : EncryptedVolume.volumeSize(inRegion: size) }

    /// The key of an encrypted one; nil for others.
    /// - Throws: where nobody has given it.
    private func key() throws -> VolumeKey? {
        switch encryption {
        case .none: nil
        case .locked: throw EncryptionError.noKey(name: path)
        case .unlocked(let key): key
        }
    }

    /// The bytes of the file system, as they are at this moment.
    /// - Parameter file: the open file, which must stay open.
    public func storage(_ file: CInt) throws -> any VolumeStorage {
        guard let key = try key() else { return PlainVolumeFile(file, start: offset) }
        return try EncryptedVolumeFile(file, start: offset, size: size, key, name: path)
    }

    /// The bytes of the file system, for reading.
    public func open() throws -> any VolumeStorage {
        let file = SharedDescriptor(try OwnedDescriptor.open(path))
        guard let key = try key() else { return PlainVolumeFile(file, start: offset) }
        return try EncryptedVolumeFile(file, start: offset, size: size, key, name: path)
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
    /// The kernel's own driver may be used, where that is safe.
    let allowsKernel: Bool
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
        // What is only read comes with images that were fetched, and is as fast without the kernel's driver.
        let kernel = !isReadOnly && place.encryption == .none && allowsKernel && mayUseKernel(fileNumber)
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
