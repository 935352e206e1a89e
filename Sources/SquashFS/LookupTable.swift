import BlockIO
import Compression

/// Reads a table that is cut into metadata blocks with a list of their positions ("SquashFS 4.0, lookup tables").
struct LookupTableReader {
    let metadata: MetadataCache
    let source: any BlockSource
    /// Where the file system ends.
    let end: UInt64

    /// The plain bytes of the table whose location list is at `listStart`.
    func read(at listStart: UInt64, entries: Int, entrySize: Int) throws(SquashFSError) -> [UInt8] {
        let byteCount = entries * entrySize
        let blockCount = (byteCount + MetadataBlock.capacity - 1) / MetadataBlock.capacity
        if blockCount == 0 { return [] }
        guard listStart <= end, UInt64(blockCount * 8) <= end - listStart else {
            throw .corrupt(name: source.name, what: "a table of \(entries) entries", position: listStart)
        }
        let list: [UInt8]
        do { list = try source.bytes(at: listStart, count: blockCount * 8) } catch { throw .block(error) }
        var out: [UInt8] = []
        for index in 0..<blockCount {
            let position = UInt64(
                littleEndian: list.span.bytes.unsafeLoadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
            out += try metadata.block(at: position).bytes
        }
        guard out.count >= byteCount else {
            throw .corrupt(name: source.name, what: "a table of \(entries) entries that is cut short", position: listStart)
        }
        out.removeLast(out.count - byteCount)
        return out
    }

    /// Splits plain bytes into entries.
    func decode<T>(
        _ bytes: [UInt8], _ entry: (inout Cursor, RawSpan) throws(TruncatedError) -> T
    ) throws(SquashFSError) -> [T] {
        var cursor = Cursor()
        var out: [T] = []
        while let next = try? entry(&cursor, bytes.span.bytes) { out.append(next) }
        return out
    }
}

/// Writes a table as metadata blocks and the list of their positions.
/// - Returns: the bytes for the place `start`, and where the location list is.
func lookupTable(
    _ entries: [UInt8], at start: UInt64, compressor: BlockCompressor
) -> (bytes: [UInt8], listStart: UInt64) {
    var writer = MetadataWriter(compressor: compressor)
    writer.append(entries)
    writer.finish()
    var out = writer.stored
    let listStart = start + UInt64(out.count)
    for block in writer.blockStarts { out.append(littleEndian: start + block) }
    return (out, listStart)
}
