import CExt2
import Glibc

/// Extended attributes, with their full names (xattr(7)).
extension ExtVolume {
    /// Whether a file has any, without reading them.
    private func mayHaveAttributes(_ inode: VolumeInode) -> Bool {
        inode.raw.i_file_acl != 0 || inode.raw.osd2.linux2.l_i_file_acl_high != 0 || cext2_inode_size(system) > 128
    }

    private func withHandle<R>(_ number: UInt32, _ body: (OpaquePointer) throws(ExtError) -> R) throws(ExtError) -> R {
        var handle: OpaquePointer?
        try ExtError.check(ext2fs_xattrs_open(system, number, &handle))
        guard let opened = handle else { throw ExtError(ENOMEM) }
        defer { ext2fs_xattrs_close(&handle) }
        try ExtError.check(ext2fs_xattrs_read(opened))
        return try body(opened)
    }

    /// A value, nil where there is none.
    public func attribute(_ name: String, of number: UInt32) throws(ExtError) -> [UInt8]? {
        guard mayHaveAttributes(try readInode(number)) else { return nil }
        return try withHandle(number) { (handle) throws(ExtError) in
            var value: UnsafeMutableRawPointer?
            var size = 0
            let status = ext2fs_xattr_get(handle, name, &value, &size)
            if status == EXT2_ET_EA_KEY_NOT_FOUND { return nil }
            try ExtError.check(status)
            defer { Glibc.free(value) }
            return Array(UnsafeRawBufferPointer(start: value, count: size))
        }
    }

    private final class Names { var all: [String] = [] }

    public func attributeNames(of number: UInt32) throws(ExtError) -> [String] {
        guard mayHaveAttributes(try readInode(number)) else { return [] }
        return try withHandle(number) { (handle) throws(ExtError) in
            let names = Names()
            ext2fs_xattrs_iterate(
                handle,
                { name, _, _, context in
                    if let name, let context {
                        Unmanaged<Names>.fromOpaque(context).takeUnretainedValue().all.append(String(cString: name))
                    }
                    return 0
                }, Unmanaged.passUnretained(names).toOpaque())
            return names.all
        }
    }

    /// - Parameter flags: XATTR_CREATE and XATTR_REPLACE of setxattr(2).
    public func setAttribute(_ name: String, _ value: [UInt8], of number: UInt32, flags: UInt32 = 0) throws(ExtError) {
        try needWritable()
        try needRoom(UInt64(blockSize) * 2)
        try prepareForAttributes(number)
        try withHandle(number) { (handle) throws(ExtError) in
            if flags != 0 {
                var old: UnsafeMutableRawPointer?
                var size = 0
                let status = ext2fs_xattr_get(handle, name, &old, &size)
                Glibc.free(old)
                if status == 0, flags & 1 != 0 { throw ExtError(EEXIST) }
                if status == EXT2_ET_EA_KEY_NOT_FOUND, flags & 2 != 0 { throw ExtError(ENODATA) }
            }
            try ExtError.check(value.withUnsafeBytes { ext2fs_xattr_set(handle, name, $0.baseAddress, value.count) })
        }
        try noteChange(number)
    }

    public func removeAttribute(_ name: String, of number: UInt32) throws(ExtError) {
        try needWritable()
        try withHandle(number) { (handle) throws(ExtError) in
            var old: UnsafeMutableRawPointer?
            var size = 0
            let status = ext2fs_xattr_get(handle, name, &old, &size)
            Glibc.free(old)
            try ExtError.check(status)
            try ExtError.check(ext2fs_xattr_remove(handle, name))
        }
        try noteChange(number)
    }

    /// libext2fs has room for attributes in an inode only where the inode says how long it is.
    private func prepareForAttributes(_ number: UInt32) throws(ExtError) {
        var inode = try readInode(number)
        guard cext2_inode_size(system) > 128, inode.raw.i_extra_isize == 0 else { return }
        inode.raw.i_extra_isize = 32
        try writeInode(number, &inode)
    }

    private func noteChange(_ number: UInt32) throws(ExtError) {
        var inode = try readInode(number)
        inode.changeTime = Self.now
        try writeInode(number, &inode)
    }

    /// Changes what the kernel keeps for everybody: mode, owner, times.
    public func change(_ number: UInt32, _ body: (inout VolumeInode) -> Void) throws(ExtError) {
        try needWritable()
        var inode = try readInode(number)
        body(&inode)
        inode.changeTime = Self.now
        try writeInode(number, &inode)
    }
}
