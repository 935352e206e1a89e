import BlockIO

/// A name in a directory, with what it points at.
public struct DirectoryEntry: Sendable {
    /// Bytes without `/` and NUL, 1 to 256 of them; they need not be UTF-8.
    public var name: [UInt8]
    /// Where the inode is in the inode table.
    public var inode: InodeReference
    /// The number that stat(2) shows.
    public var inodeNumber: UInt32
    /// Type number of the basic inode form.
    public var type: UInt16

    /// - Parameter type: 1 to 7, as a directory entry has it ("SquashFS 4.0, directory table").
    public init(name: [UInt8], inode: InodeReference, inodeNumber: UInt32, type: UInt16) {
        self.name = name
        self.inode = inode
        self.inodeNumber = inodeNumber
        self.type = type
    }
}

/// Lays out a directory's entries in runs below headers ("SquashFS 4.0, directory table").
struct DirectoryListing {
    /// Entries below one header at the most, as the format has it.
    static let entriesPerHeader = 256
    /// Entries that are looked through without an index.
    private static let leastPerHeader = 32
    /// Bytes of a name at the most: what Linux lets a program ask for.
    static let longestName = 255

    /// Writes the entries, which must be sorted by the bytes of their names, to the directory table.
    static func write(
        _ entries: [DirectoryEntry], parent: UInt32, to table: inout MetadataWriter
    ) throws(SquashFSError) -> DirectoryLocation {
        let start = table.position
        guard start.block <= UInt64(UInt32.max) else { throw .limit("a directory table of over 4 GiB") }
        var location = DirectoryLocation(
            block: UInt32(start.block), offset: UInt16(start.offset), byteCount: 0, parent: parent)
        // The kernel looks through the index for a header, and from there on for the name: that is shortest where both have
        // the same number. Runs may be shorter for reasons of their own.
        let perHeader = min(entriesPerHeader, max(leastPerHeader, Int(Double(entries.count).squareRoot())))
        var byteCount = 0
        var lastIndexed = 0
        var first = 0
        while first < entries.count {
            let end = endOfRun(entries, from: first, limit: perHeader)
            if first - lastIndexed >= perHeader, location.index.count < Int(UInt16.max) {
                location.index.append(
                    DirectoryIndexEntry(
                        position: UInt32(byteCount), block: UInt32(table.position.block), name: entries[first].name))
                lastIndexed = first
            }
            let run = encode(entries[first..<end])
            table.append(run)
            byteCount += run.count
            first = end
        }
        guard byteCount < Int(UInt32.max) - 3 else { throw .limit("a directory listing of over 4 GiB") }
        location.byteCount = UInt32(byteCount)
        return location
    }

    /// A run shares an inode block, spans inode numbers that differ by 16 bits, and stays below 8 KiB.
    private static func endOfRun(_ entries: [DirectoryEntry], from first: Int, limit: Int) -> Int {
        let base = entries[first]
        var size = 12
        var end = first
        while end < entries.count, end - first < limit {
            let entry = entries[end]
            let delta = Int64(entry.inodeNumber) - Int64(base.inodeNumber)
            size += 8 + entry.name.count
            guard entry.inode.block == base.inode.block, delta >= -32768, delta <= 32767,
                size <= MetadataBlock.capacity || end == first
            else { break }
            end += 1
        }
        return end
    }

    private static func encode(_ run: ArraySlice<DirectoryEntry>) -> [UInt8] {
        guard let base = run.first else { return [] }
        var out: [UInt8] = []
        out.append(littleEndian: UInt32(run.count - 1))
        out.append(littleEndian: UInt32(base.inode.block))
        out.append(littleEndian: base.inodeNumber)
        for entry in run {
            out.append(littleEndian: UInt16(entry.inode.offset))
            out.append(littleEndian: Int16(Int64(entry.inodeNumber) - Int64(base.inodeNumber)))
            out.append(littleEndian: entry.type)
            out.append(littleEndian: UInt16(entry.name.count - 1))
            out += entry.name
        }
        return out
    }
}
