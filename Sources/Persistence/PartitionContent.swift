import CLinux
import Glibc
import Linux

/// The bytes of a writable partition as a whole.
extension HeldImage {
    /// Copies the file system into an empty file, with its holes.
    func copyContent(to target: CInt, name: String) throws {
        guard ftruncate(target, off_t(image.place.size)) == 0 else { throw SystemError.last("make \(name)") }
        try SparseCopy.copy(file.rawValue, from: image.place.offset, count: image.place.size, to: target, at: 0, name: name)
    }

    /// Puts a file system in the place of this one. The file has room for it.
    ///
    /// Until it is complete, it cannot be mounted: what was interrupted is begun again.
    func replaceContent(with source: CInt, size: UInt64) throws {
        let (target, start, name) = (file.rawValue, image.place.offset, image.path)
        // The superblock goes first and comes last.
        let headSize: UInt64 = 4096
        try [UInt8](repeating: 0, count: Int(headSize)).withUnsafeBytes { try Files.writeAll($0, to: target, at: start, name: name) }
        guard fdatasync(target) == 0 else { throw SystemError.last("write \(name)") }
        let room = max(image.place.size, size)
        guard clinux_punch_hole(target, start + headSize, room - headSize) == 0 else { throw SystemError.last("make room in \(name)") }
        try SparseCopy.copy(source, from: headSize, count: size - headSize, to: target, at: start + headSize, name: name)
        guard fdatasync(target) == 0 else { throw SystemError.last("write \(name)") }
        try SparseCopy.copy(source, from: 0, count: headSize, to: target, at: start, name: name)
        guard fsync(target) == 0 else { throw SystemError.last("write \(name)") }
    }
}
