import BlockIO
import Definition
import Encryption
import ExtFS
import Glibc
import ImageTree
import Inventory
import SIF
import SquashFS
import Trust

/// Parsers of hostile bytes, for libFuzzer (`make fuzz`): whatever they get, they return, or throw an error of their own.
/// A trap, a hang or memory without bound is a find.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    target(Array(UnsafeBufferPointer(start: data, count: count)))
    return 0
}

/// What `SINGULARITY_FUZZ` names.
private let target: @Sendable ([UInt8]) -> Void = {
    let name = getenv("SINGULARITY_FUZZ").map { String(cString: $0) } ?? ""
    switch name {
    case "sif": return FuzzTargets.sif
    case "squashfs": return FuzzTargets.squashFS
    case "ext": return FuzzTargets.ext
    case "layer": return FuzzTargets.layer
    case "definition": return FuzzTargets.definition
    case "packages": return FuzzTargets.packages
    case "trust": return FuzzTargets.trust
    case "encryption": return FuzzTargets.encryption
    default:
        fatalError("SINGULARITY_FUZZ is one of sif, squashfs, ext, layer, definition, packages, trust, encryption")
    }
}()

private enum FuzzTargets {
    @Sendable static func sif(_ bytes: [UInt8]) {
        let source = MemorySource(bytes)
        guard let file = try? SIFFile(reading: source) else { return }
        for object in file.descriptors {
            _ = object.partition
            _ = try? source.bytes(at: UInt64(object.offset), count: min(4096, Int(object.size)))
        }
    }

    @Sendable static func squashFS(_ bytes: [UInt8]) {
        guard let image = try? SquashFSImage(MemorySource(bytes), cacheSize: 1 << 20), let root = try? SquashFSTree.read(image) else {
            return
        }
        var pending = [root]
        var budget = 1 << 22
        while let node = pending.popLast(), budget > 0 {
            budget -= 100
            if let directory = node.directory { pending += directory.children.values }
            guard case .file(let content) = node.content, let stream = try? content.stream() else { continue }
            budget -= drain(stream, limit: budget)
        }
    }

    @Sendable static func ext(_ bytes: [UInt8]) {
        guard let image = try? ExtImage(MemoryVolume(bytes), name: "fuzz") else { return }
        var pending = [ExtImage.root]
        var seen = 0
        while let number = pending.popLast(), seen < 500 {
            seen += 1
            _ = image.attributes(number)
            guard let inode = try? image.inode(number) else { continue }
            switch inode.kind {
            case .directory: pending += ((try? image.entries(number)) ?? []).map(\.inode).filter { $0 != number }
            case .file: if let stream = try? image.content(number) { _ = drain(stream, limit: 1 << 20) }
            default: break
            }
        }
    }

    /// Two layers, the newer one before a line of dashes.
    @Sendable static func layer(_ bytes: [UInt8]) {
        let split = bytes.firstIndex(of: UInt8(ascii: "-")) ?? bytes.count
        let merger = LayerMerger { content, size in
            _ = FuzzTargets.drain(content, limit: 1 << 20)
            return .bytes([UInt8](repeating: 0, count: Int(min(size, 16))))
        }
        let newer = Array(bytes[..<split])
        do {
            try merger.add(layer: 1, name: "newer") { MemoryStream(newer) }
            try merger.add(layer: 0, name: "older") { MemoryStream(bytes) }
            _ = try merger.finish()
        } catch {}
    }

    @Sendable static func definition(_ bytes: [UInt8]) {
        var arguments = BuildArguments()
        let text = String(decoding: bytes, as: UTF8.self)
        do {
            let file = try DefinitionFile(text, name: "fuzz.def", arguments: &arguments)
            for stage in file.stages { _ = stage.apps }
        } catch { _ = error.description }
    }

    /// The first byte chooses the database.
    @Sendable static func packages(_ bytes: [UInt8]) {
        let places = [
            "var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages", "var/lib/rpm/Packages.db", "var/lib/dpkg/status", "lib/apk/db/installed",
        ]
        guard let first = bytes.first else { return }
        let content = Array(bytes.dropFirst())
        let root = Node.directory()
        TreeEditor(root, time: 0).write(places[Int(first) % places.count], content, mode: 0o644)
        _ = ImageInventory(root) { try TreePath.read($0, in: root) }
    }

    /// Signatures, keys and policies; the first byte says which.
    @Sendable static func trust(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let content = Array(bytes.dropFirst())
        let text = String(decoding: content, as: UTF8.self)
        switch first % 7 {
        case 0: _ = ClearSignedText(parsing: content)
        case 1: _ = DSSEEnvelope(parsing: content)
        case 2: _ = try? ImageMetadata(parsing: content)
        case 3:
            for key in (try? KeyPackets(content))?.keys ?? [] {
                _ = PlainKey(key, from: .local, now: .max)?.accept(content, of: content, now: .max)
            }
        case 4: _ = try? VerificationKey(pem: text)
        case 5: _ = try? SigningKey(pem: text)
        default: for path in ["policy", "ecl.toml"] { _ = try? VerificationPolicy(parsing: text, path: path) }
        }
    }

    /// What says how an image is encrypted; the first byte says which.
    @Sendable static func encryption(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let content = Array(bytes.dropFirst())
        switch first % 4 {
        case 0: _ = try? GocryptfsConfiguration(parsing: content, name: "fuzz")
        case 1: _ = try? LUKSHeader(MemorySource(content))
        case 2: _ = WrappedKey.bits(content)
        default: _ = EncryptedVolume.begins(in: MemorySource(content))
        }
    }

    /// Reads a stream to its end, or to a limit.
    /// - Returns: bytes read.
    static func drain(_ stream: any ByteStream, limit: Int) -> Int {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var total = 0
        while total < limit {
            guard let count = try? buffer.withUnsafeMutableBytes({ try stream.read(into: $0) }), count > 0 else { break }
            total += count
        }
        return total
    }
}

/// A file system in memory, which nobody changes.
private final class MemoryVolume: VolumeStorage {
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var file: CInt { -1 }
    var journalPlace: JournalPlace? { nil }

    func read(at offset: UInt64, _ target: UnsafeMutableRawBufferPointer) -> CInt {
        target.initializeMemory(as: UInt8.self, repeating: 0)
        guard offset < UInt64(bytes.count) else { return 0 }
        let part = bytes[Int(offset)...].prefix(target.count)
        part.withUnsafeBytes { target.copyMemory(from: $0) }
        return 0
    }

    func write(_ parts: [iovec], at offset: UInt64) -> CInt { EROFS }
    func writeSafely(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> CInt { EROFS }
    func synchronise() -> CInt { 0 }
    func reserve(at offset: UInt64, count: UInt64) -> CInt { EROFS }
    func punch(at offset: UInt64, count: UInt64) -> CInt { EROFS }
    func keep(_ place: JournalPlace) -> CInt { EROFS }
}
