import BlockIO
import Glibc

extension SquashFSImage {
    /// All entries of a directory, in stored order.
    /// - Throws: also for names that no file system can have, such as `..` or one with a slash.
    public func entries(of inode: Inode) throws(SquashFSError) -> [DirectoryEntry] {
        guard case .directory(let location) = inode.content else { throw corrupt("listing of a non-directory", at: 0) }
        var entries: [DirectoryEntry] = []
        try scan(location, from: nil) { name, entry in
            entries.append(entry(name))
            return true
        }
        return entries
    }

    /// Finds one name in a directory without reading all of a large one.
    public func entry(named name: [UInt8], in inode: Inode) throws(SquashFSError) -> DirectoryEntry? {
        guard case .directory(let location) = inode.content else { return nil }
        var step: DirectoryIndexEntry?
        for candidate in location.index {
            if name.lexicographicallyPrecedes(candidate.name) { break }
            step = candidate
        }
        var found: DirectoryEntry?
        try name.span.bytes.withUnsafeBytes { wanted throws(SquashFSError) in
            try scan(location, from: step) { candidate, entry in
                switch Self.compare(candidate, wanted) {
                case ..<0: return true
                case 0: found = entry(candidate)
                default: break
                }
                return false
            }
        }
        return found
    }

    /// Order by unsigned bytes: negative, zero or positive, as memcmp(3).
    private static func compare(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
        let common = min(left.count, right.count)
        if common > 0, let a = left.baseAddress, let b = right.baseAddress {
            let order = memcmp(a, b, common)
            if order != 0 { return Int(order) }
        }
        return left.count - right.count
    }

    /// Walks the headers and entries of a listing until `visit` says no.
    private func scan(
        _ location: DirectoryLocation, from step: DirectoryIndexEntry?,
        visit: (_ name: UnsafeRawBufferPointer, _ entry: (UnsafeRawBufferPointer) -> DirectoryEntry) -> Bool
    ) throws(SquashFSError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 8)
        defer { buffer.deallocate() }
        let tableStart = superblock.directoryTableStart
        var remaining = Int(location.byteCount)
        var offset = Int(location.offset)
        var block = tableStart + UInt64(location.block)
        if let step {
            guard Int(step.position) <= remaining else { throw corrupt("directory index", at: block) }
            remaining -= Int(step.position)
            offset = (offset + Int(step.position)) % MetadataBlock.capacity
            block = tableStart + UInt64(step.block)
        }
        guard block < superblock.bytesUsed else { throw corrupt("directory", at: block) }
        var reader = MetadataReader(metadata, block: block, offset: offset)
        while remaining >= 12 {
            let count = try reader.read(UInt32.self)
            let inodeBlock = try reader.read(UInt32.self)
            let base = try reader.read(UInt32.self)
            remaining -= 12
            guard count < DirectoryListing.entriesPerHeader else { throw corrupt("directory header", at: reader.block) }
            for _ in 0...count {
                let inodeOffset = try reader.read(UInt16.self)
                let delta = try reader.read(Int16.self)
                let type = try reader.read(UInt16.self)
                let length = Int(try reader.read(UInt16.self)) + 1
                remaining -= 8 + length
                guard remaining >= 0, length <= 256, (1...7).contains(type) else {
                    throw corrupt("directory entry", at: reader.block)
                }
                try reader.read(count: length, into: buffer)
                let name = UnsafeRawBufferPointer(rebasing: buffer[..<length])
                guard Self.isSafe(name) else {
                    throw corrupt("the name \"\(String(decoding: name, as: UTF8.self))\" in a directory", at: reader.block)
                }
                let goOn = visit(name) { name in
                    DirectoryEntry(
                        name: [UInt8](name), inode: InodeReference(block: UInt64(inodeBlock), offset: Int(inodeOffset)),
                        inodeNumber: UInt32(truncatingIfNeeded: Int64(base) + Int64(delta)), type: type)
                }
                if !goOn { return }
            }
        }
    }

    private static func isSafe(_ name: UnsafeRawBufferPointer) -> Bool {
        let dot = UInt8(ascii: ".")
        if name[0] == dot && (name.count == 1 || name.count == 2 && name[1] == dot) { return false }
        return !name.contains { $0 == UInt8(ascii: "/") || $0 == 0 }
    }

    /// Follows a path from the root, without following links.
    /// - Returns: nil where a name is not there or a directory is not one.
    public func lookUp(_ path: String) throws(SquashFSError) -> Inode? {
        var inode = try self.inode(root)
        for part in path.split(separator: "/") where part != "." {
            guard case .directory = inode.content, let entry = try entry(named: Array(part.utf8), in: inode) else {
                return nil
            }
            inode = try self.inode(entry.inode)
        }
        return inode
    }

    /// Follows a path from the root as a process in the container would: links, absolute ones and `..` stay inside.
    public func resolve(_ path: String) throws(SquashFSError) -> Inode? {
        var pending = path.split(separator: "/").reversed().map(String.init)
        var stack = [try inode(root)]
        var links = 0
        while let part = pending.popLast() {
            if part == "." { continue }
            if part == ".." {
                if stack.count > 1 { stack.removeLast() }
                continue
            }
            guard let current = stack.last, case .directory = current.content,
                let entry = try entry(named: Array(part.utf8), in: current)
            else { return nil }
            let next = try inode(entry.inode)
            if case .symlink(let bytes) = next.content {
                links += 1
                guard links <= 40 else { return nil }
                let target = String(decoding: bytes, as: UTF8.self)
                if target.hasPrefix("/") { stack.removeLast(stack.count - 1) }
                pending += target.split(separator: "/").reversed().map(String.init)
            } else {
                stack.append(next)
            }
        }
        return stack.last
    }

    /// The whole content of a small file.
    /// - Parameter limit: bytes; of a larger file only so many are read.
    public func content(of inode: Inode, limit: Int = 1 << 20) throws(SquashFSError) -> [UInt8] {
        guard case .file(let layout) = inode.content else { return [] }
        var failure: SquashFSError?
        let bytes = [UInt8](unsafeUninitializedCapacity: min(limit, Int(clamping: layout.size))) { buffer, filled in
            do throws(SquashFSError) {
                filled = try read(layout, at: 0, into: UnsafeMutableRawBufferPointer(buffer))
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }
}
