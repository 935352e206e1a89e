import CLinux
import ExtFS
import Glibc
import Linux

/// Names, directories, and the content of files.
extension ExtServer {
    private func name(_ request: Request, from offset: Int = 0) throws(ExtError) -> [UInt8] {
        guard let name = request.name(from: offset), !name.isEmpty, !name.contains(0x2f) else { throw ExtError(EINVAL) }
        return name
    }

    func lookUp(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let found = try volume.lookUp(try name(request), in: inode(request)) else {
            // The kernel may remember that a name is not there: only it can make one.
            var out = fuse_entry_out()
            out.entry_valid = Self.validity
            return reply.send(out)
        }
        reply.send(try entry(found))
    }

    func makeNode(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_mknod_in.self) else { throw ExtError(EINVAL) }
        let device = (major: wanted.rdev >> 8 & 0xfff, minor: wanted.rdev & 0xff | wanted.rdev >> 12 & 0xfff00)
        let number = try volume.makeNode(
            try name(request, from: MemoryLayout<fuse_mknod_in>.size), in: inode(request), mode: wanted.mode, device: device,
            uid: request.header.uid, gid: try group(request))
        reply.send(try entry(number))
    }

    /// Files in a directory with the set-group-id bit belong to its group.
    private func group(_ request: Request) throws(ExtError) -> UInt32 {
        let parent = try volume.readInode(inode(request))
        return parent.passesGroup ? parent.gid : request.header.gid
    }

    func makeDirectory(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_mkdir_in.self) else { throw ExtError(EINVAL) }
        let parent = try volume.readInode(inode(request))
        let number = try volume.makeDirectory(
            try name(request, from: MemoryLayout<fuse_mkdir_in>.size), in: inode(request),
            mode: wanted.mode | (parent.passesGroup ? VolumeInode.setGroup : 0), uid: request.header.uid, gid: try group(request))
        reply.send(try entry(number))
    }

    func makeLink(_ request: Request, _ reply: Reply) throws(ExtError) {
        let name = try name(request)
        guard let target = request.name(from: name.count + 1) else { throw ExtError(EINVAL) }
        reply.send(
            try entry(
                try volume.makeLink(name, in: inode(request), to: target, uid: request.header.uid, gid: try group(request))))
    }

    func link(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_link_in.self) else { throw ExtError(EINVAL) }
        let number = Self.inode(wanted.oldnodeid)
        try volume.link(number, as: try name(request, from: MemoryLayout<fuse_link_in>.size), in: inode(request))
        reply.send(try entry(number))
    }

    func remove(_ request: Request, _ reply: Reply, isDirectory: Bool) throws(ExtError) {
        let number = try volume.remove(try name(request), from: inode(request), isDirectory: isDirectory)
        reply.error(0)
        freeIfUnused(number)
    }

    func rename(_ request: Request, _ reply: Reply) throws(ExtError) {
        let hasFlags = fuse_opcode(request.header.opcode) == FUSE_RENAME2
        let size = hasFlags ? MemoryLayout<fuse_rename2_in>.size : MemoryLayout<fuse_rename_in>.size
        guard let wanted = request.load(fuse_rename_in.self) else { throw ExtError(EINVAL) }
        let flags = hasFlags ? request.load(fuse_rename2_in.self)?.flags ?? 0 : 0
        guard flags & ~7 == 0 else { throw ExtError(EINVAL) }
        let name = try name(request, from: size)
        let lost = try volume.rename(
            name, in: inode(request), to: try self.name(request, from: size + name.count + 1), in: Self.inode(wanted.newdir),
            ExtVolume.RenameFlags(rawValue: flags), owner: (request.header.uid, request.header.gid))
        reply.error(0)
        if let lost { freeIfUnused(lost) }
    }

    // MARK: Attributes

    func setAttributes(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_setattr_in.self) else { throw ExtError(EINVAL) }
        let number = inode(request)
        let valid = wanted.valid
        func has(_ bit: UInt32) -> Bool { valid & 1 << bit != 0 }
        try volume.needWritable()
        // Bit 3: the size.
        if has(3) {
            while !(try volume.resize(number, to: wanted.size)) { waitForRoom() }
        }
        let now = ExtVolume.currentTime
        try volume.change(number) { inode in
            if has(0) { inode.mode = inode.type | wanted.mode & 0o7777 }
            if has(1) { inode.uid = wanted.uid }
            if has(2) { inode.gid = wanted.gid }
            // Bits 4 and 5 give times, 7 and 8 say that it is now.
            if has(4) { inode.accessTime = has(7) ? now : (Int64(bitPattern: wanted.atime), wanted.atimensec) }
            if has(5) { inode.modificationTime = has(8) ? now : (Int64(bitPattern: wanted.mtime), wanted.mtimensec) }
            // Bit 11: who writes to it, or gives it away, takes rights from it.
            if has(11) { inode.dropPrivileges() }
        }
        if has(11) { try dropCapabilities(number) }
        var out = fuse_attr_out()
        out.attr_valid = Self.validity
        out.attr = attr(number, try volume.readInode(number))
        reply.send(out)
    }

    private func dropCapabilities(_ number: UInt32) throws(ExtError) {
        if try volume.attribute("security.capability", of: number) != nil {
            try volume.removeAttribute("security.capability", of: number)
        }
    }

    // MARK: Content

    func read(_ request: Request, _ reply: Reply, _ buffer: UnsafeMutableRawBufferPointer) throws(ExtError) {
        guard let wanted = request.load(fuse_read_in.self) else { throw ExtError(EINVAL) }
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(Int(wanted.size), buffer.count)])
        let count = try volume.read(inode(request), at: wanted.offset, into: target)
        reply.send(UnsafeRawBufferPointer(rebasing: target[..<count]))
    }

    func write(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_write_in.self) else { throw ExtError(EINVAL) }
        let head = MemoryLayout<fuse_write_in>.size
        guard head + Int(wanted.size) <= request.body.count else { throw ExtError(EINVAL) }
        try volume.needWritable()
        let number = inode(request)
        let bytes = UnsafeRawBufferPointer(rebasing: request.body[head..<head + Int(wanted.size)])
        var done = 0
        while done < bytes.count {
            // A large write is more than one transaction where the journal is small.
            let part = UnsafeRawBufferPointer(rebasing: bytes[done..<min(bytes.count, done + volume.largestWrite)])
            do throws(ExtError) { try volume.write(number, at: wanted.offset + UInt64(done), part) } catch {
                if done == 0 { throw error }
                break
            }
            done += part.count
            if done < bytes.count { waitForRoom() }
        }
        let now = ExtVolume.currentTime
        // Bit 2: the writer may not keep the file's special rights.
        let dropsRights = wanted.write_flags & 4 != 0
        try volume.change(number) { inode in
            inode.modificationTime = now
            if dropsRights { inode.dropPrivileges() }
        }
        if dropsRights { try dropCapabilities(number) }
        var out = fuse_write_out()
        out.size = UInt32(done)
        reply.send(out)
    }

    /// fallocate(2): takes room, or makes a hole.
    func allocate(_ request: Request, _ reply: Reply) throws(ExtError) {
        guard let wanted = request.load(fuse_fallocate_in.self) else { throw ExtError(EINVAL) }
        try volume.needWritable()
        // 1: the size stays; 2: a hole.
        switch wanted.mode {
        case 0, 1:
            var done: UInt64 = 0
            while done < wanted.length {
                let count = min(wanted.length - done, 256 << 20)
                try volume.reserve(inode(request), from: wanted.offset + done, count: count, keepSize: wanted.mode == 1)
                done += count
                if done < wanted.length { waitForRoom() }
            }
        case 3:
            var done: UInt64 = 0
            while done < wanted.length {
                let count = min(wanted.length - done, 1 << 30)
                try volume.punch(inode(request), from: wanted.offset + done, count: count)
                done += count
                if done < wanted.length { waitForRoom() }
            }
        default: throw ExtError(EOPNOTSUPP)
        }
        reply.error(0)
    }

    func list(_ request: Request, _ reply: Reply, _ buffer: UnsafeMutableRawBufferPointer) throws(ExtError) {
        guard let wanted = request.load(fuse_read_in.self) else { throw ExtError(EINVAL) }
        let isPlus = fuse_opcode(request.header.opcode) == FUSE_READDIRPLUS
        var writer = DirectoryWriter(
            UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(Int(wanted.size), buffer.count)]), isPlus: isPlus)
        try volume.list(inode(request), from: wanted.offset) { (item) throws(ExtError) in
            let isDot = item.name == [0x2e] || item.name == [0x2e, 0x2e]
            // What does not fit must not be counted as known.
            guard writer.hasRoom(for: item.name) else { return false }
            let full = isPlus && !isDot ? try entry(item.inode) : fuse_entry_out()
            return writer.add(
                item.name, inode: UInt64(item.inode), type: Self.directoryType(item.type), next: item.next, entry: full)
        }
        reply.send(writer.bytes)
    }

    /// From the numbers in directories to those of readdir(3).
    private static func directoryType(_ type: UInt8) -> UInt32 {
        switch type {
        case 1: UInt32(DT_REG)
        case 2: UInt32(DT_DIR)
        case 3: UInt32(DT_CHR)
        case 4: UInt32(DT_BLK)
        case 5: UInt32(DT_FIFO)
        case 6: UInt32(DT_SOCK)
        case 7: UInt32(DT_LNK)
        default: UInt32(DT_UNKNOWN)
        }
    }
}
