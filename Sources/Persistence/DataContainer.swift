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
        if let size = settings.size { try ExtFormat.check(size: size) }
        let output = try OutputFile(path, mode: 0o644)
        let writer = try SIFWriter(creating: output.descriptor, name: path, time: nil, id: [])
        try writer.add(NewObject(.partition, detail: .partition(.ext3, .data, .host))) { (offset: UInt64) throws -> UInt64 in
            let size = try ExtFormat.extend(output.descriptor, from: offset, size: settings.size, isExt3: settings.isExt3, name: path)
            try ExtFormat.make(
                output.descriptor, at: offset, size: size, owner: settings.owner(), directories: settings.directories,
                isExt3: settings.isExt3, name: path)
            return size
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
        /// Bytes that it holds or may grow to, of its files, and on disk.
        public var size: UInt64
        public var used: UInt64
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
        if object.partition?.fileSystem == .ext3 {
            let image = try WritableImage(path)
            let usage = try Maintenance(path).usage()
            return Info(
                path: path, isWritable: true, size: usage.size, used: usage.used, onDisk: usage.onDisk, holder: image.holder?.text,
                isClean: usage.isClean || image.holder != nil, snapshots: snapshots)
        }
        return Info(
            path: path, isWritable: false, size: UInt64(object.size), used: UInt64(object.size), onDisk: UInt64(status.st_blocks) * 512,
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
        if object.partition?.fileSystem == .ext3 {
            let image = try WritableImage(path)
            held = try image.hold(forWriting: false, "data export")
            root = try ExtContent(image).tree()
        } else {
            guard case .squashFS(let image, _, _, _) = try ImageFile.openData(path, keys: keys).content else {
                throw PersistenceError.refused("\(path) is no data container")
            }
            root = try SquashFSTree.read(image)
        }
        try withExtendedLifetime(held) {
            if TarFile.endings.contains(where: target.hasSuffix) { return try TarFile.write(root, to: target, latestTime: nil) }
            try SandboxSink(target, asRoot: getuid() == 0, latestTime: nil).write(root, threads: MachineLimits.processors)
        }
    }
}
