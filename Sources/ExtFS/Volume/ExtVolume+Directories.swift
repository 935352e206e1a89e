import CExt2
import Glibc

/// A name in a directory.
public struct VolumeEntry {
    public var name: [UInt8]
    public var inode: UInt32
    /// As in the directory ("ext4 Data Structures", ext4_dir_entry_2): 1 for a file, 2 for a directory, ...
    public var type: UInt8
    /// Where a listing goes on behind it.
    public var next: UInt64
}

/// A directory block: entries that follow each other, each with its own length. Every access is bounds-checked.
private struct DirectoryBlock {
    let bytes: UnsafeMutableRawBufferPointer
    /// Bytes for entries; a checksum may follow.
    let end: Int

    private static let headSize = 8

    static func size(of nameLength: Int) -> Int { (headSize + nameLength + 3) & ~3 }

    struct Entry {
        var offset: Int
        var inode: UInt32
        var length: Int
        var nameLength: Int
        var type: UInt8

        /// Bytes that it needs.
        var used: Int { inode == 0 ? 0 : DirectoryBlock.size(of: nameLength) }
    }

    /// The entry at a place, nil behind the last one.
    func entry(at offset: Int) throws(ExtError) -> Entry? {
        guard offset < end else { return nil }
        guard offset + Self.headSize <= end else { throw ExtError(EUCLEAN) }
        let raw = UnsafeRawBufferPointer(bytes)
        var length = Int(raw.loadUnaligned(fromByteOffset: offset + 4, as: UInt16.self))
        // The length of a whole block of 64 KiB.
        if length == 65535 || length == 0 { length = 65536 }
        let entry = Entry(
            offset: offset, inode: raw.loadUnaligned(fromByteOffset: offset, as: UInt32.self), length: length,
            nameLength: Int(raw[offset + 6]), type: raw[offset + 7])
        guard length >= Self.headSize, length % 4 == 0, offset + length <= bytes.count, entry.used <= length else {
            throw ExtError(EUCLEAN)
        }
        return entry
    }

    func name(_ entry: Entry) -> [UInt8] { Array(bytes[entry.offset + Self.headSize..<entry.offset + Self.headSize + entry.nameLength]) }

    func put(_ name: [UInt8], _ inode: UInt32, _ type: UInt8, at offset: Int, length: Int) {
        bytes.storeBytes(of: inode, toByteOffset: offset, as: UInt32.self)
        setLength(length, at: offset)
        bytes[offset + 6] = UInt8(name.count)
        bytes[offset + 7] = type
        UnsafeMutableRawBufferPointer(rebasing: bytes[(offset + Self.headSize)...]).copyBytes(from: name)
    }

    func setLength(_ length: Int, at offset: Int) {
        bytes.storeBytes(of: UInt16(length >= 65536 ? 0 : length), toByteOffset: offset + 4, as: UInt16.self)
    }

    func setInode(_ inode: UInt32, type: UInt8, at offset: Int) {
        bytes.storeBytes(of: inode, toByteOffset: offset, as: UInt32.self)
        bytes[offset + 7] = type
    }

    /// Bytes that the largest new entry can have.
    func room() throws(ExtError) -> Int {
        var offset = 0
        var room = 0
        while let entry = try entry(at: offset) {
            room = max(room, entry.length - entry.used)
            offset += entry.length
        }
        return room
    }
}

extension ExtVolume {
    /// Bytes of a checksum at the end of a directory's blocks.
    private var tailSize: Int { superblock.pointee.s_feature_ro_compat & 0x400 != 0 ? 12 : 0 }

    /// Does something with a block of a directory; a change must be written by ``writeDirectoryBlock``.
    private func withBlock<R>(
        _ number: UInt32, _ inode: inout VolumeInode, _ index: Int, _ body: (DirectoryBlock, UInt64) throws(ExtError) -> R
    ) throws(ExtError) -> R {
        guard let place = try mapped(number, &inode, UInt64(index), limit: 1).place else { throw ExtError(EUCLEAN) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 8)
        defer { buffer.deallocate() }
        // The bytes as they are: damaged ones are found entry by entry.
        let error = store.read(at: place * UInt64(blockSize), buffer)
        if error != 0 { throw ExtError(error) }
        return try body(DirectoryBlock(bytes: buffer, end: blockSize - tailSize), place)
    }

    private func writeDirectoryBlock(_ number: UInt32, _ block: DirectoryBlock, _ place: UInt64) throws(ExtError) {
        try ExtError.check(ext2fs_write_dir_block4(system, place, block.bytes.baseAddress, 0, number))
    }

    private func blockCount(_ inode: VolumeInode) -> Int { Int(inode.size / UInt64(blockSize)) }

    /// A directory's names, all of them.
    private func directory(_ number: UInt32, _ inode: inout VolumeInode) throws(ExtError) -> DirectoryCache.Directory {
        if let known = directories.known(number) { return known }
        guard inode.isDirectory else { throw ExtError(ENOTDIR) }
        guard !inode.isInline else { throw ExtError(EOPNOTSUPP) }
        let directory = DirectoryCache.Directory()
        for index in 0..<blockCount(inode) {
            try withBlock(number, &inode, index) { (block, _) throws(ExtError) in
                var offset = 0
                var room = 0
                while let entry = try block.entry(at: offset) {
                    if entry.inode != 0, entry.nameLength > 0 {
                        directory.names[block.name(entry)] = DirectoryCache.Place(inode: entry.inode, type: entry.type, block: index)
                    }
                    room = max(room, entry.length - entry.used)
                    offset += entry.length
                }
                directory.room.append(room)
            }
        }
        directories.keep(number, directory)
        return directory
    }

    /// Finds a name.
    /// - Returns: its inode, nil where it is not there.
    public func lookUp(_ name: [UInt8], in number: UInt32) throws(ExtError) -> UInt32? {
        if let known = directories.known(number) { return known.names[name]?.inode }
        var inode = try readInode(number)
        return try directory(number, &inode).names[name]?.inode
    }

    /// The names of a directory from a place on, with `.` and `..`.
    /// - Parameter body: false to end.
    public func list(_ number: UInt32, from place: UInt64, _ body: (VolumeEntry) throws(ExtError) -> Bool) throws(ExtError) {
        var inode = try readInode(number)
        guard inode.isDirectory else { throw ExtError(ENOTDIR) }
        let size = UInt64(blockSize)
        var index = Int(place / size)
        while index < blockCount(inode) {
            let goesOn = try withBlock(number, &inode, index) { (block, _) throws(ExtError) -> Bool in
                // Entries may have been joined since the place was given: from the beginning, and only what is behind it.
                var offset = 0
                while let entry = try block.entry(at: offset) {
                    offset += entry.length
                    guard entry.inode != 0, entry.nameLength > 0, UInt64(index) * size + UInt64(entry.offset) >= place else { continue }
                    let next = UInt64(index) * size + UInt64(min(offset, Int(size)))
                    let isLast = offset >= block.end
                    guard
                        try body(
                            VolumeEntry(
                                name: block.name(entry), inode: entry.inode, type: entry.type,
                                next: isLast ? UInt64(index + 1) * size : next))
                    else { return false }
                }
                return true
            }
            if !goesOn { return }
            index += 1
        }
    }

    /// Whether a directory has nothing but `.` and `..`.
    func isEmpty(_ number: UInt32) throws(ExtError) -> Bool {
        var inode = try readInode(number)
        return try directory(number, &inode).names.keys.allSatisfy { $0 == [0x2e] || $0 == [0x2e, 0x2e] }
    }

    /// The type that a directory entry has for a mode.
    static func entryType(_ mode: UInt32) -> UInt8 {
        switch mode & UInt32(S_IFMT) {
        case UInt32(S_IFREG): 1
        case UInt32(S_IFDIR): 2
        case UInt32(S_IFCHR): 3
        case UInt32(S_IFBLK): 4
        case UInt32(S_IFIFO): 5
        case UInt32(S_IFSOCK): 6
        case UInt32(S_IFLNK): 7
        default: 0
        }
    }

    /// Adds a name that is not there yet.
    func addEntry(_ name: [UInt8], _ target: UInt32, type: UInt8, to number: UInt32) throws(ExtError) {
        var inode = try readInode(number)
        if inode.raw.i_flags & UInt32(EXT2_INDEX_FL) != 0 { try makeLinear(number, &inode) }
        let directory = try directory(number, &inode)
        let needed = DirectoryBlock.size(of: name.count)
        var index = directory.room.lastIndex { $0 >= needed }
        if index == nil {
            try needRoom(UInt64(blockSize))
            try ExtError.check(ext2fs_expand_dir(system, number))
            inode = try readInode(number)
            lastRuns.forget(number)
            directory.room.append(blockSize - tailSize)
            index = directory.room.count - 1
        }
        guard let index else { throw ExtError(ENOSPC) }
        try withBlock(number, &inode, index) { (block, place) throws(ExtError) in
            var offset = 0
            while let entry = try block.entry(at: offset) {
                if entry.length - entry.used >= needed {
                    if entry.inode == 0 {
                        block.put(name, target, type, at: offset, length: entry.length)
                    } else {
                        block.setLength(entry.used, at: offset)
                        block.put(name, target, type, at: offset + entry.used, length: entry.length - entry.used)
                    }
                    directory.room[index] = try block.room()
                    return try writeDirectoryBlock(number, block, place)
                }
                offset += entry.length
            }
            throw ExtError(EUCLEAN)
        }
        directory.names[name] = DirectoryCache.Place(inode: target, type: type, block: index)
        try touch(number)
    }

    /// Removes a name.
    func removeEntry(_ name: [UInt8], from number: UInt32) throws(ExtError) {
        var inode = try readInode(number)
        if inode.raw.i_flags & UInt32(EXT2_INDEX_FL) != 0 { try makeLinear(number, &inode) }
        let directory = try directory(number, &inode)
        guard let place = directory.names[name] else { throw ExtError(ENOENT) }
        try withBlock(number, &inode, place.block) { (block, blockPlace) throws(ExtError) in
            var offset = 0
            var previous: DirectoryBlock.Entry?
            while let entry = try block.entry(at: offset) {
                if entry.inode != 0, block.name(entry) == name {
                    if let previous {
                        block.setLength(previous.length + entry.length, at: previous.offset)
                    } else {
                        block.setInode(0, type: 0, at: offset)
                    }
                    directory.room[place.block] = try block.room()
                    return try writeDirectoryBlock(number, block, blockPlace)
                }
                previous = entry
                offset += entry.length
            }
            throw ExtError(EUCLEAN)
        }
        directory.names[name] = nil
        try touch(number)
    }

    /// Lets a name lead to something else.
    func replaceEntry(_ name: [UInt8], _ target: UInt32, type: UInt8, in number: UInt32) throws(ExtError) {
        var inode = try readInode(number)
        let directory = try directory(number, &inode)
        guard let place = directory.names[name] else { throw ExtError(ENOENT) }
        try withBlock(number, &inode, place.block) { (block, blockPlace) throws(ExtError) in
            var offset = 0
            while let entry = try block.entry(at: offset) {
                if entry.inode != 0, block.name(entry) == name {
                    block.setInode(target, type: type, at: offset)
                    return try writeDirectoryBlock(number, block, blockPlace)
                }
                offset += entry.length
            }
            throw ExtError(EUCLEAN)
        }
        directory.names[name] = DirectoryCache.Place(inode: target, type: type, block: place.block)
        try touch(number)
    }

    /// The kernel's index of a large directory is not kept up: without it, the directory is a plain list.
    private func makeLinear(_ number: UInt32, _ inode: inout VolumeInode) throws(ExtError) {
        let directory = try directory(number, &inode)
        guard let parent = directory.names[[0x2e, 0x2e]]?.inode else { throw ExtError(EUCLEAN) }
        inode.raw.i_flags &= ~UInt32(EXT2_INDEX_FL)
        try writeInode(number, &inode)
        var names = directory.names.filter { $0.key != [0x2e] && $0.key != [0x2e, 0x2e] }.map { ($0.key, $0.value) }
        names.append(([0x2e, 0x2e], DirectoryCache.Place(inode: parent, type: 2, block: 0)))
        names.append(([0x2e], DirectoryCache.Place(inode: number, type: 2, block: 0)))
        let new = DirectoryCache.Directory()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: blockSize, alignment: 8)
        defer { buffer.deallocate() }
        for index in 0..<blockCount(inode) {
            guard let place = try mapped(number, &inode, UInt64(index), limit: 1).place else { throw ExtError(EUCLEAN) }
            memset(buffer.address, 0, buffer.count)
            let block = DirectoryBlock(bytes: buffer, end: blockSize - tailSize)
            var offset = 0
            var last = 0
            while let (name, target) = names.last, offset + DirectoryBlock.size(of: name.count) <= block.end {
                let length = DirectoryBlock.size(of: name.count)
                block.put(name, target.inode, target.type, at: offset, length: length)
                new.names[name] = DirectoryCache.Place(inode: target.inode, type: target.type, block: index)
                last = offset
                offset += length
                names.removeLast()
            }
            // The last entry, or an empty one, takes the rest.
            block.setLength(block.end - last, at: last)
            if tailSize > 0 {
                let tail = (buffer.address + block.end).assumingMemoryBound(to: ext2_dir_entry_tail.self)
                tail.pointee.det_reserved_zero1 = 0
                tail.pointee.det_rec_len = UInt16(tailSize)
                tail.pointee.det_reserved_name_len = 0xde00
            }
            new.room.append(try block.room())
            try writeDirectoryBlock(number, block, place)
        }
        guard names.isEmpty else { throw ExtError(EUCLEAN) }
        directories.keep(number, new)
    }

    /// A directory has changed now.
    private func touch(_ number: UInt32) throws(ExtError) {
        var inode = try readInode(number)
        inode.modificationTime = Self.now
        inode.changeTime = inode.modificationTime
        try writeInode(number, &inode)
    }
}
