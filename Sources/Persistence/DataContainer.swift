import BlockIO
import Build
import Glibc
import ImageTree
import Linux
import Runtime
import SIF
import SquashFS

/// Images of data: a SIF with one partition, which can be written to or not.
public enum DataContainer {
    /// Makes an empty one that can be written to.
    public static func create(_ path: String, _ settings: OverlayPartition.Settings) throws {
        if Files.status(path, followLinks: false) != nil {
            throw PersistenceError.refused("\(path) is there already; remove it, or choose another name")
        }
        try OverlayPartition.check(settings)
        let output = try OutputFile(path, mode: 0o644)
        let writer = try SIFWriter(creating: output.descriptor, name: path, time: nil, id: [])
        try writer.add(NewObject(.partition, detail: .partition(settings.fileSystem, .data, .host))) { (offset: UInt64) throws -> UInt64 in
            try OverlayPartition.makeFileSystem(output.descriptor, from: offset, settings, directories: settings.directories, name: path)
        }
        try writer.commit()
        try output.commit()
    }

    /// Makes an immutable one of a directory or a file.
    /// - Parameter encryption: nil for a plain one.
    public static func package(
        _ source: String, to path: String, writer options: WriterOptions, force: Bool, encryption: ImageEncryption? = nil
    ) throws {
        if !force, Files.status(path, followLinks: false) != nil {
            throw PersistenceError.refused("\(path) is there already; overwrite it with --force")
        }
        guard let status = Files.status(source) else { throw PersistenceError.refused("\(source): \(SystemError.last("open").reason)") }
        let root: Node
        if status.st_mode & S_IFMT == S_IFDIR {
            root = try HostTree.read(source, ownership: getuid() == 0 ? .asStored : .recorded)
        } else {
            let name = String(source.split(separator: "/").last ?? "data")
            root = .directory()
            root.directory?.children[Array(name.utf8)] = Node(
                .file(status.st_size == 0 ? .empty : .host(HostFile(path: RawPath(source), size: UInt64(status.st_size)))),
                Attributes(mode: UInt16(status.st_mode & 0o7777), modificationTime: Int64(status.st_mtim.tv_sec)))
        }
        let output = try OutputFile(path, mode: 0o644)
        let sif = try SIFWriter(creating: output.descriptor, name: path, time: nil, id: [])
        func write(_ descriptor: CInt, at position: UInt64) throws -> UInt64 {
            let writer = try ImageWriter(descriptor, at: position, options: options, name: path)
            var sink = SquashFSSink(writer, latestTime: nil)
            return try sink.write(root)
        }
        if let encryption {
            try encryption.write(to: sif, output, type: .data, .host) { try write($0, at: 0) }
        } else {
            try sif.add(NewObject(.partition, detail: .partition(.squashFS, .data, .host))) { try write(output.descriptor, at: $0) }
        }
        try sif.commit()
        try output.commit()
    }

    /// What is known of one.
    public struct Info: Sendable {
        public var path: String
        public var isWritable: Bool
        public var isEncrypted: Bool
        /// Bytes that it holds or may grow to, of its files, and on disk. Of its files nothing is known without its key.
        public var size: UInt64
        public var used: UInt64?
        public var onDisk: UInt64
        /// Who writes to it at the moment.
        public var holder: String?
        public var isClean: Bool
        public var snapshots: [String]
    }

    /// - Returns: nil where a file is no data container.
    public static func info(_ path: String) throws -> Info? {
        guard let status = Files.status(path), status.st_mode & S_IFMT == S_IFREG else { return nil }
        let source = try FileSource(path: path)
        guard SIFFile.isSIF(source) else { return nil }
        let sif = try SIFFile(reading: source)
        guard let object = sif.descriptors.first(where: { $0.partition?.type == .data }), sif.primaryPartition == nil else { return nil }
        let snapshots = try Snapshots(path).list().map(\.name)
        if object.isWritablePartition {
            let image = try WritableImage(path)
            let usage = image.isLocked ? nil : try Maintenance(path).usage()
            return Info(
                path: path, isWritable: true, isEncrypted: image.isEncrypted, size: image.size, used: usage?.used, onDisk: image.usedSize,
                holder: image.holder?.text, isClean: usage?.isClean ?? true || image.holder != nil, snapshots: snapshots)
        }
        return Info(
            path: path, isWritable: false, isEncrypted: object.partition?.fileSystem.isEncrypted ?? false, size: UInt64(object.size),
            used: UInt64(object.size), onDisk: UInt64(status.st_blocks) * 512,
            holder: nil, isClean: true, snapshots: snapshots)
    }

    /// Writes all that is in one into a new directory, or a tar by the target's name.
    /// - Parameter keys: for an encrypted one.
    public static func export(_ path: String, to target: String, keys: ImageKeys = .none) throws {
        let root: Node
        var held: HeldImage?
        let source = try FileSource(path: path)
        let sif = try SIFFile(reading: source)
        guard let object = sif.descriptors.first(where: { $0.partition?.type == .data }) else {
            throw PersistenceError.refused("\(path) is no data container; `singularity build --sandbox` unpacks images")
        }
        if object.isWritablePartition {
            let image = try WritableImage(path, keys: keys)
            held = try image.hold(forWriting: false, "data export")
            root = try ExtContent(image).tree()
        } else {
            guard case .squashFS(let image, _, _, _) = try ImageFile.openData(path, keys: keys).content else {
                throw PersistenceError.refused("\(path) is no data container")
            }
            root = try SquashFSTree.read(image)
        }
        try withExtendedLifetime(held) {
            if TarFile.endings.contains(where: target.hasSuffix) {
                return try TarFile.write(root, to: target, latestTime: nil, threads: MachineLimits.processors)
            }
            try SandboxSink(target, asRoot: getuid() == 0, latestTime: nil).write(root, threads: MachineLimits.processors)
        }
    }
}
