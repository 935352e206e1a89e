import BlockIO
import Build
import CLinux
import Encryption
import Glibc
import Linux
import Runtime
import SIF

/// Writable partitions of images.
public enum OverlayPartition {
    /// What a new one shall be.
    public struct Settings {
        /// Bytes; nil for as much as ever may be needed.
        public var size: UInt64?
        /// Directories in it, as paths from the root on.
        public var directories: [String] = []
        /// Its files are root's, for --fakeroot.
        public var forFakeRoot = false
        /// With nothing that ext3 had not, so that the peers write to it too.
        public var isExt3 = false
        /// Nil for a plain one.
        public var encryption: ImageEncryption?
        var given: ExtFormat.Owner?

        public init() {}

        /// As descriptors of a SIF have it.
        var fileSystem: FileSystemType { encryption == nil ? .ext3 : .raw }

        func owner() -> ExtFormat.Owner { given ?? (forFakeRoot ? .init(uid: 0, gid: 0) : .init(uid: getuid(), gid: getgid())) }
    }

    static func layout(_ settings: Settings) throws -> [String] {
        try ["upper", "work"]
            + settings.directories.map { path in
                guard !path.split(separator: "/").contains("..") else {
                    throw PersistenceError.refused("--create-dir \(path): .. leads out of the overlay")
                }
                return "upper/" + path
            }
    }

    /// Adds a partition to a SIF, or makes a file that is an overlay.
    public static func create(_ path: String, _ settings: Settings) throws {
        try check(settings)
        guard Files.status(path) != nil else { return try createFile(path, settings) }
        let file = try OwnedDescriptor.open(path, O_RDWR)
        let source = try FileSource(path: path)
        guard SIFFile.isSIF(source) else {
            throw PersistenceError.refused("destination image \(path) already exists, and is not a SIF to which an overlay could be added")
        }
        let sif = try SIFFile(reading: source)
        guard let primary = sif.primaryPartition, let nature = primary.partition else {
            throw PersistenceError.refused("\(path) has no root file system that an overlay could be for")
        }
        guard settings.encryption != nil || !nature.fileSystem.isEncrypted else {
            throw PersistenceError.refused(
                "encrypted root FS partition in \(path): could not add writable overlay that is not encrypted too; give --encrypt and a key"
            )
        }
        if let old = sif.descriptors.first(where: { $0.partition?.type == .overlay && $0.isWritablePartition }) {
            throw PersistenceError.refused(
                "a writable overlay partition already exists in \(path) (ID: \(old.id)), delete it first with `singularity overlay remove \(path)`"
            )
        }
        // A signature of a group is one of all that is in it: what changes must stay outside.
        let isSigned = sif.descriptors.contains { $0.type == .signature }
        let group = isSigned ? (sif.descriptors.compactMap(\.group).max() ?? 0) + 1 : primary.group ?? 1
        try add(
            NewObject(.partition, group: group, detail: .partition(settings.fileSystem, .overlay, nature.architecture)), to: file, path,
            sif, settings,
            directories: layout(settings))
    }

    static func check(_ settings: Settings) throws {
        if let size = settings.size { try ExtFormat.check(size: size) }
        if settings.isExt3, settings.encryption != nil {
            throw PersistenceError.refused(
                "--ext3 is for Apptainer and SingularityCE, which open no writable file system that is encrypted")
        }
    }

    /// Adds a file system behind all there is. The SIF has it only when it is complete.
    static func add(
        _ object: NewObject, to file: borrowing OwnedDescriptor, _ path: String, _ sif: SIFFile, _ settings: Settings, directories: [String]
    ) throws {
        let lease = try ImageLease.take(path, file: file.rawValue, forWriting: false, note: "")
        defer { lease.release() }
        try append(object, to: file.rawValue, path, sif, settings, directories: directories)
    }

    /// The same partition as one of another file, and empty.
    static func append(like old: WritableImage, to descriptor: CInt, _ path: String, _ settings: Settings) throws {
        let before = try SIFFile(reading: try FileSource(path: old.path))
        let after = try SIFFile(reading: try FileSource(copyOf: descriptor, name: path))
        guard let object = old.object, let partition = try before.descriptor(id: object).partition else { return }
        let owner = try ExtContent(old).rootOwner()
        var settings = settings
        settings.given = .init(uid: owner.uid, gid: owner.gid)
        settings.isExt3 = ExtFormat.isExt3(try OwnedDescriptor.open(old.path, O_RDONLY).rawValue, old.place)
        try append(
            NewObject(.partition, detail: .partition(partition.fileSystem, partition.type, partition.architecture)), to: descriptor, path,
            after, settings, directories: layout(settings), like: old)
    }

    private static func append(
        _ object: NewObject, to descriptor: CInt, _ path: String, _ sif: SIFFile, _ settings: Settings, directories: [String],
        like old: WritableImage? = nil
    ) throws {
        let oldSize = try Files.status(descriptor, name: path).st_size
        let alignment: UInt64 = 4096
        let offset = (UInt64(sif.dataEnd) + alignment - 1) / alignment * alignment
        do {
            let size = try makeFileSystem(descriptor, from: offset, settings, directories: directories, like: old, name: path)
            let writer = try SIFWriter(changing: SharedDescriptor(OwnedDescriptor(dup(descriptor))), name: path, time: Int64(time(nil)))
            try writer.add(object) { (place: UInt64) throws(PersistenceError) -> UInt64 in
                guard place == offset else { throw PersistenceError.refused("\(path) was changed by somebody else meanwhile; try again") }
                return size
            }
            guard fdatasync(descriptor) == 0 else { throw SystemError.last("write \(path)") }
            try writer.commit()
            guard fsync(descriptor) == 0 else { throw SystemError.last("write \(path)") }
        } catch {
            ftruncate(descriptor, oldSize)
            throw error
        }
    }

    /// Makes a file system at the end of a file.
    /// - Parameter old: whose keys shall open the new one, where it is encrypted.
    /// - Returns: the bytes that it has in the file.
    static func makeFileSystem(
        _ file: CInt, from offset: UInt64, _ settings: Settings, directories: [String], like old: WritableImage? = nil, name: String
    ) throws -> UInt64 {
        let isEncrypted = settings.encryption != nil || old?.isEncrypted ?? false
        let wanted = settings.size.map { isEncrypted ? EncryptedVolume.regionSize(for: $0) : $0 }
        let size = try ExtFormat.extend(file, from: offset, size: wanted, isExt3: settings.isExt3, name: name)
        var place = ExtPlace(path: name, offset: offset, size: size)
        try ExtFormat.clear(file, place)
        if let old, old.isEncrypted {
            let source = try SliceSource(try FileSource(path: old.path), offset: old.place.offset, size: old.place.size)
            try EncryptedVolume.copyHeader(source, to: file, at: offset, name: name)
            place.encryption = old.place.encryption
        } else if let encryption = settings.encryption {
            place.encryption = .unlocked(try encryption.makeVolume(file, at: offset, name: name))
        }
        try ExtFormat.make(file, place, owner: settings.owner(), directories: directories, isExt3: settings.isExt3)
        return size
    }

    private static func createFile(_ path: String, _ settings: Settings) throws {
        let output = try OutputFile(path, mode: 0o644)
        _ = try makeFileSystem(output.descriptor, from: 0, settings, directories: layout(settings), name: path)
        try output.commit()
    }

    /// Takes the overlay partition out of a SIF, with all changes in it.
    public static func remove(_ path: String) throws {
        let image = try WritableImage(path)
        guard image.kind == .overlay, let object = image.object else {
            throw PersistenceError.refused("\(path) has no overlay partition: remove the file itself")
        }
        let held = try image.hold(forWriting: true, asItIs: true, "overlay remove")
        let descriptor = held.file.rawValue
        let writer = try SIFWriter(changing: SharedDescriptor(OwnedDescriptor(dup(descriptor))), name: path, time: Int64(time(nil)))
        try writer.remove(id: object)
        try writer.commit()
        guard fdatasync(descriptor) == 0 else { throw SystemError.last("write \(path)") }
        if image.isLast {
            ftruncate(descriptor, off_t(writer.file.dataEnd))
        } else {
            _ = clinux_punch_hole(descriptor, image.place.offset, image.place.size)
        }
    }

    /// Throws all changes away.
    /// - Parameter keys: for an encrypted one.
    public static func discard(_ path: String, keys: ImageKeys = .none) throws {
        if Files.isDirectory(path) {
            for name in ["upper", "work"] {
                Files.removeTree("\(path)/\(name)")
                if Files.status("\(path)/\(name)", followLinks: false) != nil {
                    throw PersistenceError.refused("\(path)/\(name) has files of other users: remove them with --fakeroot, or as root")
                }
            }
            return
        }
        let image = try WritableImage(path, keys: keys)
        guard image.kind != .data else {
            throw PersistenceError.refused("\(path) is a data container; `overlay discard` is for overlays")
        }
        try empty(try image.hold(forWriting: true, asItIs: true, "overlay discard"))
    }

    static func empty(_ held: HeldImage) throws {
        let image = held.image
        let owner = (try? ExtContent(image).rootOwner()) ?? (uid: getuid(), gid: getgid())
        try ExtFormat.remake(held.file.rawValue, image.place, owner: .init(uid: owner.uid, gid: owner.gid))
    }
}
