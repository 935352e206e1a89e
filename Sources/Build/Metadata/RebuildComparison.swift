import BlockIO
import Cryptography
import Glibc
import ImageTree
import Linux
import Runtime
import SIF

/// Whether an image that was built again is what it was.
public struct RebuildComparison {
    /// What differs, in words; empty where nothing does.
    public private(set) var differences: [String] = []

    private let old: (path: String, source: FileSource, file: SIFFile)
    private let new: (path: String, source: FileSource, file: SIFFile)

    /// Files that are named at the most.
    private static let most = 20

    /// - Parameters:
    ///   - old: path of the image that was published.
    ///   - new: path of the one that was built just now.
    public init(_ old: String, _ new: String) throws {
        func open(_ path: String) throws -> (String, FileSource, SIFFile) {
            let source = try FileSource(path: path)
            return (path, source, try SIFFile(reading: source))
        }
        self.old = try open(old)
        self.new = try open(new)
        try compare()
    }

    /// When the file system of an image was made, Unix seconds: a build with this as SOURCE_DATE_EPOCH can give the same bytes.
    public static func buildTime(of path: String) throws -> Int64 {
        guard case .squashFS(let image, _, _, _) = try ImageFile.open(path, workingDirectory: Files.workingDirectory).content else {
            throw BuildError.badSource(path, why: "it is no image that could be built again")
        }
        return Int64(image.superblock.modificationTime)
    }

    /// Signatures, logs and writable partitions come to an image after it was built, or are different each time.
    private static func counts(_ object: Descriptor) -> Bool {
        if object.type == .signature || object.name == "build.log" { return false }
        guard let partition = object.partition else { return true }
        return partition.type == .primarySystem || partition.type == .system
    }

    private static func name(_ object: Descriptor) -> String {
        let type = object.type?.name ?? "object"
        return object.name.isEmpty ? type : "\(type) \(object.name)"
    }

    private mutating func compare() throws {
        var provenanceDiffers = false
        let before = Dictionary(grouping: old.file.descriptors.filter(Self.counts), by: Self.name)
        let after = Dictionary(grouping: new.file.descriptors.filter(Self.counts), by: Self.name)
        for name in Set(before.keys).union(after.keys).sorted() {
            let (left, right) = (before[name] ?? [], after[name] ?? [])
            guard left.count == right.count else {
                differences.append(left.isEmpty ? "\(name): only in the new image" : "\(name): only in \(old.path)")
                continue
            }
            for (one, other) in zip(left, right) where try !isEqual(one, other) {
                if one.partition != nil {
                    try compareTrees(one, other)
                } else if one.name != Provenance.objectName {
                    differences.append("\(name): differs")
                } else {
                    provenanceDiffers = true
                }
            }
        }
        // It has the digest of the file system, and differs with that.
        if differences.isEmpty && provenanceDiffers { differences.append("JSON.Generic \(Provenance.objectName): differs") }
        if !differences.isEmpty, old.file.descriptors.contains(where: { $0.name == "build.log" }) {
            differences.append(
                "(\(old.path) was built without SOURCE_DATE_EPOCH: files that its sections made have the times at which they were made)")
        }
    }

    private func isEqual(_ one: Descriptor, _ other: Descriptor) throws -> Bool {
        guard one.size == other.size, one.detail == other.detail else { return false }
        var done: Int64 = 0
        while done < one.size {
            let count = Int(min(1 << 20, one.size - done))
            let left = try old.source.bytes(at: UInt64(one.offset + done), count: count)
            guard try left == new.source.bytes(at: UInt64(other.offset + done), count: count) else { return false }
            done += Int64(count)
        }
        return true
    }

    private mutating func compareTrees(_ one: Descriptor, _ other: Descriptor) throws {
        if one.detail != other.detail {
            return differences.append("the file system is encrypted, or for another architecture, in one of them")
        }
        let changes = try ImageComparison.changes(from: old.path, to: new.path, ignoresTimes: false)
        if changes.isEmpty {
            return differences.append(
                "the files are the same, and stored differently: by other compression options, or another version of this program")
        }
        for change in changes.prefix(Self.most) {
            let details = change.details.isEmpty ? "" : " (\(change.details.joined(separator: ", ")))"
            differences.append("\(change.path): \(change.kind.rawValue)\(details)")
        }
        if changes.count > Self.most {
            differences.append("... and \(changes.count - Self.most) more files; `singularity diff --times` shows all")
        }
    }
}
