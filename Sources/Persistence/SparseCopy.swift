import CLinux
import ExtFS
import Glibc
import Linux

/// Copies parts of files, and leaves holes as they are.
public enum SparseCopy {
    /// Parts of a file that are no holes: where they begin, and how many bytes.
    static func extents(_ file: CInt, from start: UInt64, count: UInt64) -> [(offset: UInt64, count: UInt64)] {
        var found: [(offset: UInt64, count: UInt64)] = []
        let (seekData, seekHole): (CInt, CInt) = (3, 4)
        var position = off_t(start)
        let end = off_t(start + count)
        while position < end {
            let data = lseek(file, position, seekData)
            // ENXIO: nothing but a hole is left. A file system that knows no holes says that all is data.
            guard data >= 0, data < end else { break }
            let hole = lseek(file, data, seekHole)
            guard hole > data else { break }
            found.append((UInt64(data), UInt64(min(hole, end) - data)))
            position = hole
        }
        return found
    }

    /// Makes holes of all zeros in a part of a file.
    static func dig(_ file: CInt, from start: UInt64, count: UInt64) {
        let size = 256 << 10
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
        defer { buffer.deallocate() }
        // Room without content counts as a hole, and is taken nevertheless.
        var end = start
        func punchGap(to next: UInt64) { if next > end { _ = clinux_punch_hole(file, end, next - end) } }
        defer { punchGap(to: start + count) }
        for extent in extents(file, from: start, count: count) {
            punchGap(to: extent.offset)
            end = extent.offset + extent.count
            var done: UInt64 = 0
            while done < extent.count {
                let wanted = Int(min(UInt64(size), extent.count - done))
                let got = pread(file, buffer.baseAddress, wanted, off_t(extent.offset + done))
                guard got > 0, let bytes = buffer.baseAddress else { return }
                // Equal to itself moved by one byte, and the first one zero.
                if buffer[0] == 0, memcmp(bytes, bytes + 1, got - 1) == 0 { _ = clinux_punch_hole(file, extent.offset + done, UInt64(got)) }
                done += UInt64(got)
            }
        }
    }

    /// Copies a part of a file to a place in another, which has nothing but holes there.
    ///
    /// Where the file system can share the blocks (reflinks), nothing is copied at all.
    static func copy(_ source: CInt, from start: UInt64, count: UInt64, to target: CInt, at place: UInt64, name: String) throws {
        if clinux_clone_range(source, start, count, target, place) == 0 { return }
        for extent in extents(source, from: start, count: count) {
            var done: UInt64 = 0
            while done < extent.count {
                let copied = clinux_copy_range(
                    source, Int64(extent.offset + done), target, Int64(place + (extent.offset - start) + done),
                    min(extent.count - done, 1 << 30))
                if copied > 0 {
                    done += UInt64(copied)
                    continue
                }
                if copied < 0, errno == EINTR { continue }
                try byHand(source, extent.offset + done, extent.count - done, target, place + (extent.offset - start) + done, name)
                break
            }
        }
    }

    private static func byHand(_ source: CInt, _ start: UInt64, _ count: UInt64, _ target: CInt, _ place: UInt64, _ name: String) throws {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        var done: UInt64 = 0
        while done < count {
            let got = pread(source, buffer.baseAddress, Int(min(UInt64(buffer.count), count - done)), off_t(start + done))
            if got < 0 {
                if errno == EINTR { continue }
                throw SystemError.last("read \(name)")
            }
            if got == 0 { break }
            try Files.writeAll(UnsafeRawBufferPointer(rebasing: buffer[..<got]), to: target, at: place + done, name: name)
            done += UInt64(got)
        }
    }

    /// Copies what is not zero at the beginning of a file into a volume that is zero.
    /// - Parameter count: bytes.
    static func copy(_ source: CInt, count: UInt64, to volume: any VolumeStorage, name: String) throws {
        let (step, blockSize) = (1 << 20, 4096)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: step, alignment: 4096)
        defer { buffer.deallocate() }
        for extent in extents(source, from: 0, count: count) {
            // Blocks are encrypted as a whole.
            var position = extent.offset / UInt64(blockSize) * UInt64(blockSize)
            let end = (extent.offset + extent.count + UInt64(blockSize) - 1) / UInt64(blockSize) * UInt64(blockSize)
            while position < end {
                let wanted = min(step, Int(end - position))
                let got = pread(source, buffer.baseAddress, wanted, off_t(position))
                guard got >= 0 else { throw SystemError.last("read \(name)") }
                let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
                UnsafeMutableRawBufferPointer(rebasing: part[got...]).initializeMemory(as: UInt8.self, repeating: 0)
                for start in stride(from: 0, to: wanted, by: blockSize) {
                    let block = UnsafeRawBufferPointer(rebasing: part[start..<start + blockSize])
                    if block.allSatisfy({ $0 == 0 }) { continue }
                    let error = volume.write(block, at: position + UInt64(start))
                    if error != 0 { throw SystemError("write \(name)", errno: error) }
                }
                position += UInt64(wanted)
            }
        }
    }

    /// Copies a whole image file with its holes, under another name when all is there. Who writes to it by the kernel's own
    /// driver waits meanwhile, and our own server as soon as its journal is full of what the copy may need.
    public static func copy(_ path: String, to target: String) throws {
        let source = try OwnedDescriptor.open(path, O_RDONLY)
        let status = try Files.status(source.rawValue, name: path)
        guard status.st_mode & S_IFMT == S_IFREG else { throw PersistenceError.refused("\(path) is not a file") }
        FileMark.copying.set(source.rawValue)
        let output = try OutputFile(target, mode: status.st_mode & 0o777)
        guard ftruncate(output.descriptor, status.st_size) == 0 else { throw SystemError.last("make \(target)") }
        let frozen = FrozenMount(image: Files.resolved(path) ?? path)
        defer { frozen?.thaw() }
        try copy(source.rawValue, from: 0, count: UInt64(status.st_size), to: output.descriptor, at: 0, name: target)
        try output.commit()
    }
}
