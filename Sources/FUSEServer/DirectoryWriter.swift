import CLinux
import Glibc

/// Lays out directory entries as the kernel reads them (linux/fuse.h, fuse_dirent and fuse_direntplus).
struct DirectoryWriter {
    private let buffer: UnsafeMutableRawBufferPointer
    private let isPlus: Bool
    private var used = 0

    init(_ buffer: UnsafeMutableRawBufferPointer, isPlus: Bool) {
        self.buffer = buffer
        self.isPlus = isPlus
    }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: buffer[..<used]) }

    /// Bytes of a fuse_dirent before the name.
    private static let headSize = 24

    private func size(of name: [UInt8]) -> Int {
        ((isPlus ? MemoryLayout<fuse_entry_out>.size : 0) + Self.headSize + name.count + 7) & ~7
    }

    func hasRoom(for name: [UInt8]) -> Bool { used + size(of: name) <= buffer.count }

    /// - Parameter next: where a later request goes on behind this entry.
    /// - Returns: false where there is no room left.
    mutating func add(_ name: [UInt8], inode: UInt64, type: UInt32, next: UInt64, entry: fuse_entry_out) -> Bool {
        let prefix = isPlus ? MemoryLayout<fuse_entry_out>.size : 0
        let size = size(of: name)
        guard used + size <= buffer.count else { return false }
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[used..<used + size])
        target.initializeMemory(as: UInt8.self, repeating: 0)
        if isPlus { target.storeBytes(of: entry, as: fuse_entry_out.self) }
        target.storeBytes(of: inode, toByteOffset: prefix, as: UInt64.self)
        target.storeBytes(of: next, toByteOffset: prefix + 8, as: UInt64.self)
        target.storeBytes(of: UInt32(name.count), toByteOffset: prefix + 16, as: UInt32.self)
        target.storeBytes(of: type, toByteOffset: prefix + 20, as: UInt32.self)
        UnsafeMutableRawBufferPointer(rebasing: target[(prefix + Self.headSize)...]).copyBytes(from: name)
        used += size
        return true
    }
}
