import BlockIO
import Compression

/// An extended attribute with its full name, such as `security.capability`.
public struct Xattr: Hashable, Sendable {
    /// With its prefix, such as `user.comment`.
    public var name: String
    /// The bytes of the value; 64 KiB at most, as Linux has it.
    public var value: [UInt8]

    /// - Parameter name: with its prefix.
    public init(name: String, value: [UInt8]) {
        self.name = name
        self.value = value
    }

    /// The prefixes that SquashFS has numbers for, in the order of these numbers.
    static let prefixes = ["user.", "trusted.", "security."]

    /// Whether SquashFS can hold an attribute of this name.
    public static func canStore(_ name: String) -> Bool {
        prefixes.contains { name.hasPrefix($0) && name.utf8.count > $0.utf8.count }
    }
}

/// Collects attribute sets; equal sets share one index ("SquashFS 4.0, xattr table").
struct XattrTableWriter {
    private var pairs: MetadataWriter
    private var ids: [(reference: UInt64, count: UInt32, size: UInt32)] = []
    private var known: [[Xattr]: UInt32] = [:]

    init(compressor: BlockCompressor) { pairs = MetadataWriter(compressor: compressor) }

    /// The index for an inode, or ``Inode/noXattrs`` for an empty set. Attributes that the format cannot hold are
    /// left out.
    mutating func index(of attributes: [Xattr]) throws(SquashFSError) -> UInt32 {
        let set = attributes.filter { Xattr.canStore($0.name) }.sorted { $0.name < $1.name }
        if set.isEmpty { return Inode.noXattrs }
        if let index = known[set] { return index }
        let reference = pairs.position.rawValue
        var size = 0
        for attribute in set {
            guard let type = Xattr.prefixes.firstIndex(where: attribute.name.hasPrefix) else { continue }
            let name = Array(attribute.name.utf8.dropFirst(Xattr.prefixes[type].utf8.count))
            guard name.count <= 0xffff, attribute.value.count <= 65536 else {
                throw .limit("an extended attribute of \(attribute.value.count) bytes (\(attribute.name))")
            }
            var pair: [UInt8] = []
            pair.append(littleEndian: UInt16(type))
            pair.append(littleEndian: UInt16(name.count))
            pair += name
            pair.append(littleEndian: UInt32(attribute.value.count))
            pair += attribute.value
            pairs.append(pair)
            size += attribute.name.utf8.count + 1 + attribute.value.count
        }
        let index = UInt32(ids.count)
        ids.append((reference, UInt32(set.count), UInt32(size)))
        known[set] = index
        return index
    }

    var isEmpty: Bool { ids.isEmpty }

    /// All of the table's bytes for a place in the image, and where its header is.
    mutating func finish(at start: UInt64, compressor: BlockCompressor) -> (bytes: [UInt8], header: UInt64) {
        pairs.finish()
        var entries = MetadataWriter(compressor: compressor)
        for id in ids {
            var entry: [UInt8] = []
            entry.append(littleEndian: id.reference)
            entry.append(littleEndian: id.count)
            entry.append(littleEndian: id.size)
            entries.append(entry)
        }
        entries.finish()
        let entriesStart = start + UInt64(pairs.stored.count)
        var out = pairs.stored + entries.stored
        let header = start + UInt64(out.count)
        out.append(littleEndian: start)
        out.append(littleEndian: UInt32(ids.count))
        out.append(littleEndian: UInt32(0))
        for block in entries.blockStarts { out.append(littleEndian: entriesStart + block) }
        return (out, header)
    }
}
