import BlockIO

/// The extended attributes of an image.
struct XattrTable: Sendable {
    private struct Entry: Sendable {
        var reference: InodeReference
        var count: UInt32
    }

    private static let outOfLine: UInt16 = 0x0100
    private let pairsStart: UInt64
    private let entries: [Entry]

    /// - Parameter header: position of the 16-byte header.
    init(at header: UInt64, tables: LookupTableReader) throws(SquashFSError) {
        let name = tables.source.name
        let count: UInt32
        do {
            let bytes = try tables.source.bytes(at: header, count: 16)
            pairsStart = UInt64(littleEndian: bytes.span.bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt64.self))
            count = UInt32(littleEndian: bytes.span.bytes.unsafeLoadUnaligned(fromByteOffset: 8, as: UInt32.self))
        } catch { throw .block(error) }
        guard pairsStart < header, UInt64(count) <= header else {
            throw .corrupt(name: name, what: "the xattr table", position: header)
        }
        let bytes = try tables.read(at: header + 16, entries: Int(count), entrySize: 16)
        entries = try tables.decode(bytes) { (cursor, bytes) throws(TruncatedError) in
            let reference = InodeReference(rawValue: try cursor.read(from: bytes))
            let count = try cursor.read(UInt32.self, from: bytes)
            try cursor.skip(4, of: bytes)
            return Entry(reference: reference, count: count)
        }
    }

    func attributes(_ index: UInt32, in image: SquashFSImage) throws(SquashFSError) -> [Xattr] {
        guard index < entries.count else { throw image.corrupt("xattr number \(index)", at: pairsStart) }
        let entry = entries[Int(index)]
        guard entry.count <= 65536 else { throw image.corrupt("\(entry.count) xattrs", at: pairsStart) }
        var reader = MetadataReader(
            image.metadata, block: pairsStart &+ entry.reference.block, offset: entry.reference.offset)
        var out: [Xattr] = []
        for _ in 0..<entry.count {
            let type = try reader.read(UInt16.self)
            let nameLength = try reader.read(UInt16.self)
            let name = try reader.read(count: Int(nameLength))
            let length = try reader.read(UInt32.self)
            guard length <= 65536 else { throw image.corrupt("xattr of \(length) bytes", at: reader.block) }
            var value = try reader.read(count: Int(length))
            if type & Self.outOfLine != 0 { value = try outOfLineValue(value, in: image) }
            let prefix = Int(type & 0xff)
            guard prefix < Xattr.prefixes.count else { continue }
            out.append(Xattr(name: Xattr.prefixes[prefix] + String(decoding: name, as: UTF8.self), value: value))
        }
        return out
    }

    private func outOfLineValue(_ bytes: [UInt8], in image: SquashFSImage) throws(SquashFSError) -> [UInt8] {
        guard bytes.count == 8 else { throw image.corrupt("out-of-line xattr", at: pairsStart) }
        let reference = InodeReference(
            rawValue: UInt64(littleEndian: bytes.span.bytes.unsafeLoadUnaligned(fromByteOffset: 0, as: UInt64.self)))
        var reader = MetadataReader(image.metadata, block: pairsStart &+ reference.block, offset: reference.offset)
        let length = try reader.read(UInt32.self)
        guard length <= 65536 else { throw image.corrupt("xattr of \(length) bytes", at: reader.block) }
        return try reader.read(count: Int(length))
    }
}
