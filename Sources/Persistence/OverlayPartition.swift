import CLinux
import BlockIO
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
        var given: ExtFormat.Owner?

        public init() {}

        func owner() -> ExtFormat.Owner { given ?? (forFakeRoot ? .init(uid: 0, gid: 0) : .init(uid: getuid(), gid: getgid())) }
    }

    private static func layout(_ settings: Settings) throws -> [String] {
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
        if let size = settings.size { try ExtFormat.check(size: size) }
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
        guard !nature.fileSystem.isEncrypted else {
            throw PersistenceError.refused("encrypted root FS partition in \(path): could not add writable overlay")
        }
        if let old = sif.descriptors.first(where: { $0.partition?.type == .overlay && $0.partition?.fileSystem == .ext3 }) {
            throw PersistenceError.refused(
                "a writable overlay partition already exists in \(path) (ID: \(old.id)), delete it first with `singularity overlay remove \(path)`"
            )
        }
        // A signature of a group is one of all that is in it: what changes must stay outside.
        let isSigned = sif.descriptors.contains { $0.type == .signature }
        let group = isSigned ? (sif.descriptors.compactMap(\.group).max() ?? 0) + 1 : primary.group ?? 1
        try add(
            NewObject(.partition, group: group, detail: .partition(.ext3, .overlay, nature.architecture)), to: file, path, sif, settings,
            directories: layout(settings))
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
        settings.isExt3 = ExtFormat.isExt3(try OwnedDescriptor.open(old.path, O_RDONLY).rawValue, at: old.place.offset)
        try append(
            NewObject(.partition, detail: .partition(partition.fileSystem, partition.type, partition.architecture)), to: descriptor, path,
            after, settings, directories: layout(settings))
    }

    private static func append(
        _ object: NewObject, to descriptor: CInt, _ path: String, _ sif: SIFFile, _ settings: Settings, directories: [String]
    ) throws {
        let oldSize = try Files.status(descriptor, name: path).st_size
        let alignment: UInt64 = 4096
        let offset = (UInt64(sif.dataEnd) + alignment - 1) / alignment * alignment
        do {
            let size = try ExtFormat.extend(descriptor, from: offset, size: settings.size, isExt3: settings.isExt3, name: path)
            try ExtFormat.make(
                descriptor, at: offset, size: size, owner: settings.owner(), directories: directories,
                isExt3: settings.isExt3, name: path)
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

    private static func createFile(_ path: String, _ settings: Settings) throws {
        let output = try OutputFile(path, mode: 0o644)
        let size = try ExtFormat.extend(output.descriptor, from: 0, size: settings.size, isExt3: settings.isExt3, name: path)
        try ExtFormat.make(
            output.descriptor, at: 0, size: size, owner: settings.owner(), directories: layout(settings),
            isExt3: settings.isExt3, name: path)
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
    public static func discard(_ path: String) throws {
        if Files.isDirectory(path) {
            for name in ["upper", "work"] {
                Files.removeTree("\(path)/\(name)")
                if Files.status("\(path)/\(name)", followLinks: false) != nil {
                    throw PersistenceError.refused("\(path)/\(name) has files of other users: remove them with --fakeroot, or as root")
                }
            }
            return
        }
        let image = try WritableImage(path)
        guard image.kind != .data else {
            throw PersistenceError.refused("\(path) is a data container; `overlay discard` is for overlays")
        }
        try empty(try image.hold(forWriting: true, asItIs: true, "overlay discard"))
    }

    static func empty(_ held: HeldImage) throws {
        let image = held.image
        let owner = (try? ExtContent(image).rootOwner()) ?? (uid: getuid(), gid: getgid())
        try ExtFormat.make(
            held.file.rawValue, at: image.place.offset, size: image.place.size, owner: .init(uid: owner.uid, gid: owner.gid),
            directories: layout(Settings()), isExt3: ExtFormat.isExt3(held.file.rawValue, at: image.place.offset), name: image.path)
    }
}
