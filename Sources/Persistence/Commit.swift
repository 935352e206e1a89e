import BlockIO
import Build
import Crypto
import Glibc
import ImageTree
import Linux
import Messages
import Runtime
import SIF
import SquashFS

/// Merges an image and its changes into a new immutable image.
///
/// Blocks that are as they were are copied compressed, so that it costs what changed, and the copying.
public struct Commit {
    private let changes: OverlayChanges
    private let message: String
    private let log: Log

    public init(_ changes: OverlayChanges, message: String, _ log: Log) {
        self.changes = changes
        self.message = message
        self.log = log
    }

    /// Makes a new file; the image and its changes stay as they are.
    public func write(_ target: String) throws {
        let output = try OutputFile(target, mode: 0o755)
        try make(output)
        try output.commit()
    }

    /// Puts the new image in the place of the old one, and empties the overlay.
    public func replace() throws {
        let mode = Files.status(changes.image).map { $0.st_mode & 0o777 } ?? 0o755
        let output = try OutputFile(changes.image, mode: mode)
        try make(output)
        if case .partition(let held) = changes.place, changes.isEmbedded {
            var settings = OverlayPartition.Settings()
            settings.size = held.image.size
            try OverlayPartition.append(like: held.image, to: output.descriptor, output.path, settings)
        }
        try output.commit()
        // Until now the changes are in both. What is laid over the new image once more changes nothing.
        if !changes.isEmbedded {
            switch changes.place {
            case .directory: try OverlayPartition.discard(changes.overlay)
            case .partition(let held): try OverlayPartition.empty(held)
            }
        }
    }

    private func make(_ output: OutputFile) throws {
        let source = try FileSource(path: changes.image)
        let old = try SIFFile(reading: source)
        guard let primary = old.primaryPartition, let nature = primary.partition else {
            throw PersistenceError.refused("\(changes.image) has no root file system")
        }
        let definition = try old.first(.definitionFile).map { try source.bytes(at: UInt64($0.offset), count: Int($0.size)) } ?? []
        var history = try ImageHistory(changes.image)
        guard
            try Process.inChild(
                {
                    try changes.enter()
                    // The parent's digest is made on another processor meanwhile.
                    let digest = DigestThread(source, offset: UInt64(primary.offset), size: UInt64(primary.size))
                    let root = try changes.merged()
                    let list = try changes.list(root, ignoresTimes: true)
                    func count(_ kind: TreeDiff.Change.Kind) -> Int { list.count { $0.kind == kind } }
                    let account = getpwuid(getuid()).map { String(cString: $0.pointee.pw_name) } ?? "\(getuid())"
                    history.commits.append(
                        ImageHistory.Entry(
                            parent: Self.unknownDigest, name: String(changes.image.split(separator: "/").last ?? ""),
                            author: "\(account)@\(Lease.thisHost)", time: CivilTime(Int64(time(nil))).rfc3339, message: message,
                            added: count(.added), changed: count(.changed), removed: count(.removed),
                            tool: "singularity \(ProgramVersion.text)"))
                    var description = SIFTarget.Description(
                        definition: String(decoding: definition, as: UTF8.self), metadata: try InspectMetadata(root).json,
                        architecture: nature.architecture)
                    description.time = Int64(time(nil))
                    description.objects = [(ImageHistory.objectName, .genericJSON, Array(history.json.compact.utf8))]
                    for object in old.descriptors where Self.isKept(object) {
                        guard let type = object.type else { continue }
                        description.objects.append(
                            (object.name, type, try source.bytes(at: UInt64(object.offset), count: Int(object.size))))
                    }
                    var writer = WriterOptions(compressor: changes.base.superblock.compressor, threads: MachineLimits.processors)
                    if writer.compressor.levels == nil { writer = WriterOptions(threads: MachineLimits.processors) }
                    writer.blockSize = changes.base.blockSize
                    writer.modificationTime = UInt32(clamping: time(nil))
                    var options = ImageOptions(writer: writer, latestTime: nil)
                    options.encryption = changes.encryption
                    try SIFTarget(output, options: options).write(description) { _ in root }
                    try Self.write(digest.value(), into: output)
                    return []
                }, failed: { log.fatal("\($0)") }) != nil
        else { throw PersistenceError.refused("the commit has failed; \(changes.image) and its changes are as they were") }
    }

    /// In the place of the parent's digest, until that is known: it is made while the file is written.
    private static let unknownDigest = String(repeating: "0", count: 64)

    private static func write(_ digest: String, into output: OutputFile) throws {
        let source = try FileSource(copyOf: output.descriptor, name: output.path)
        guard let object = try SIFFile(reading: source).first(.genericJSON, named: ImageHistory.objectName) else { return }
        let bytes = try source.bytes(at: UInt64(object.offset), count: Int(object.size))
        // The last entry is the newest.
        guard let place = bytes.lastRange(of: Array(unknownDigest.utf8)) else { return }
        try Array(digest.utf8).withUnsafeBytes {
            try Files.writeAll($0, to: output.descriptor, at: UInt64(object.offset) + UInt64(place), name: output.path)
        }
    }

    /// Objects that say where the image comes from. What describes its content doesn't hold any more, and signatures neither.
    private static func isKept(_ object: Descriptor) -> Bool {
        object.type == .genericJSON && ["build.json", "oci-config.json"].contains(object.name)
            || object.type == .generic && object.name == "build.log"
    }
}

/// Hashes a part of a file on a thread of its own.
///
/// `@unchecked Sendable`: the result is written before the thread ends, and read after that.
private final class DigestThread: @unchecked Sendable {
    private var thread: WorkerThread?
    private var result: Result<String, any Error>?

    init(_ source: FileSource, offset: UInt64, size: UInt64) {
        thread = try? WorkerThread { [self] in
            result = Result {
                var hasher = SHA256()
                try source.read(offset..<offset + size) { hasher.update(bufferPointer: $0) }
                return hasher.finalize().hexadecimal
            }
        }
    }

    func value() throws -> String {
        thread?.join()
        guard let result else { throw SystemError("start a thread", errno: EAGAIN) }
        return try result.get()
    }
}

extension [UInt8] {
    /// Where some bytes begin that occur last.
    fileprivate func lastRange(of wanted: [UInt8]) -> Int? {
        guard !wanted.isEmpty, count >= wanted.count else { return nil }
        return (0...count - wanted.count).last { self[$0..<$0 + wanted.count].elementsEqual(wanted) }
    }
}
