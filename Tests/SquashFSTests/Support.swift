import BlockIO
import Compression
import Foundation
import ImageTree
import Linux
import SquashFS
import TestSupport

/// Writes trees to memory and describes what can be read of them.
enum Trees {
    /// An open file without a name.
    static func file() throws -> SharedDescriptor {
        var template = Array((NSTemporaryDirectory() + "/squashfs.XXXXXX").utf8CString)
        let raw = mkstemp(&template)
        guard raw >= 0 else { throw CocoaError(.fileWriteUnknown) }
        unlink(&template)
        return SharedDescriptor(OwnedDescriptor(raw))
    }

    /// - Parameter base: bytes before the file system.
    static func write(_ options: WriterOptions, at base: UInt64 = 0, _ makeTree: (ImageWriter) throws -> Node) throws -> SquashFSImage {
        let file = try file()
        let writer = try ImageWriter(file.rawValue, at: base, options: options, name: "test")
        let tree = try makeTree(writer)
        var sink = SquashFSSink(writer, latestTime: nil)
        let size = try sink.write(tree)
        let source = try FileSource(file, name: "test")
        return try SquashFSImage(try SliceSource(source, offset: base, size: size))
    }

    /// All that is in an image, a line for each name.
    static func describe(_ image: SquashFSImage) throws -> [String: String] {
        var out: [String: String] = [:]
        var pending = [(path: "", inode: try image.inode(image.root))]
        var steps = 0
        while let (path, inode) = pending.popLast() {
            steps += 1
            // A damaged image may say that a directory contains itself.
            if steps > 100_000 { throw SquashFSError.corrupt(name: "test", what: "too many names", position: 0) }
            var text = "\(String(inode.mode, radix: 8)) \(inode.uid):\(inode.gid) \(inode.modificationTime) \(inode.linkCount)"
            for xattr in try image.xattrs(of: inode).sorted(by: { $0.name < $1.name }) { text += " \(xattr.name)=\(xattr.value)" }
            switch inode.content {
            case .directory:
                text += " directory"
                for entry in try image.entries(of: inode) {
                    pending.append((path + "/" + String(decoding: entry.name, as: UTF8.self), try image.inode(entry.inode)))
                }
            case .file(let layout): text += " file \(layout.size) \(try hash(image, layout))"
            case .symlink(let target): text += " link \(String(decoding: target, as: UTF8.self))"
            case .blockDevice(let number): text += " block \(number)"
            case .characterDevice(let number): text += " character \(number)"
            case .fifo: text += " fifo"
            case .socket: text += " socket"
            }
            out[path.isEmpty ? "/" : path] = text
        }
        return out
    }

    /// FNV-1a of a file's bytes, read in odd pieces.
    static func hash(_ image: SquashFSImage, _ layout: FileLayout) throws -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        var buffer = [UInt8](repeating: 0, count: 77_777)
        var position: UInt64 = 0
        // A damaged size costs time, not truth: a few megabytes tell enough.
        while position < min(layout.size, 8 << 20) {
            let count = try buffer.withUnsafeMutableBytes { try image.read(layout, at: position, into: $0) }
            if count == 0 { break }
            for byte in buffer[..<count] { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
            position += UInt64(count)
        }
        return hash
    }

    static func hash(_ bytes: [UInt8]) -> UInt64 { bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 } }
}
