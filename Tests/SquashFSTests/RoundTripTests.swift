import BlockIO
import Compression
import Foundation
import ImageTree
import SquashFS
import TestSupport
import Testing

@Suite struct RoundTripTests {
    /// A random tree and what a reader must find in it.
    private static func tree(_ seed: UInt64, _ writer: ImageWriter) throws -> (Node, [String: String]) {
        var generator = Generator(state: seed)
        var expected: [String: String] = [:]
        let root = Node.directory()
        root.attributes = Attributes(mode: 0o750, uid: 7, gid: 8, modificationTime: 1000)
        func line(_ attributes: Attributes, _ links: Int, _ text: String) -> String {
            var out = "\(String(attributes.mode, radix: 8)) \(attributes.uid):\(attributes.gid) \(attributes.modificationTime) \(links)"
            for xattr in attributes.xattrs.sorted(by: { $0.name < $1.name }) { out += " \(xattr.name)=\(xattr.value)" }
            return out + " " + text
        }
        func fill(_ directory: Directory, _ path: String, depth: Int) throws -> Int {
            var folders = 0
            for number in 0..<Int.random(in: 3...14, using: &generator) {
                let name = "n\(number)-" + String(repeating: "x", count: Int.random(in: 0...20, using: &generator))
                var attributes = Attributes(
                    mode: UInt16.random(in: 0...0o7777, using: &generator), uid: UInt32.random(in: 0...3, using: &generator) * 100_000,
                    gid: UInt32.random(in: 0...70_000, using: &generator),
                    modificationTime: Int64.random(in: 0...1_900_000_000, using: &generator))
                if Int.random(in: 0..<4, using: &generator) == 0 {
                    attributes.xattrs = [
                        Xattr(name: "user.a", value: [1, 2, UInt8.random(in: 0...2, using: &generator)]),
                        Xattr(name: "trusted.big", value: [UInt8](repeating: 9, count: 300)),
                        Xattr(name: "security.capability", value: [0, 1]),
                    ]
                }
                let place = "\(path)/\(name)"
                switch Int.random(in: 0..<8, using: &generator) {
                case 0 where depth < 3:
                    let node = Node(.directory(Directory()), attributes)
                    directory[name] = node
                    folders += 1
                    let inner = try node.directory.map { try fill($0, place, depth: depth + 1) } ?? 0
                    expected[place] = line(attributes, 2 + inner, "directory")
                case 1:
                    directory[name] = Node(.symlink(Array("target/\(number)".utf8)), attributes)
                    expected[place] = line(attributes, 1, "link target/\(number)")
                case 2:
                    directory[name] = Node(.characterDevice(0x1234_0056), attributes)
                    expected[place] = line(attributes, 1, "character \(0x1234_0056)")
                case 3:
                    directory[name] = Node(.fifo, attributes)
                    expected[place] = line(attributes, 1, "fifo")
                default:
                    let kind = Int.random(in: 0..<5, using: &generator)
                    let size = [0, 10, 4096, 5000, 300_001][kind]
                    var bytes = (0..<size).map { _ in UInt8.random(in: 0...3, using: &generator) }
                    // A hole, and content that several files share.
                    if size > 100_000, Bool.random(using: &generator) { for index in 8192..<200_000 { bytes[index] = 0 } }
                    if size == 5000 { bytes = [UInt8](repeating: 5, count: 5000) }
                    let stored = try writer.data.store(MemoryStream(bytes), size: UInt64(size))
                    directory[name] = Node(.file(.stored(stored)), attributes)
                    expected[place] = line(attributes, 1, "file \(size) \(Trees.hash(bytes))")
                }
            }
            return folders
        }
        let folders = try root.directory.map { try fill($0, "", depth: 0) } ?? 0
        expected["/"] = line(root.attributes, 2 + folders, "directory")
        return (root, expected)
    }

    @Test(arguments: [Compressor.zstd, .gzip, .xz, .lz4], [4096, 131_072]) func whatIsWrittenIsReadBack(
        _ compressor: Compressor, _ blockSize: Int
    ) throws {
        for seed in 1...4 as ClosedRange<UInt64> {
            var options = WriterOptions(compressor: compressor, threads: 3)
            options.blockSize = blockSize
            var expected: [String: String] = [:]
            let image = try Trees.write(options, at: 4096) { writer in
                let (tree, lines) = try Self.tree(seed &* 99, writer)
                expected = lines
                return tree
            }
            let found = try Trees.describe(image)
            for (path, line) in expected where found[path] != line { Issue.record("\(path): \(found[path] ?? "missing"), not \(line)") }
            #expect(found.count == expected.count)
        }
    }

    @Test func hardLinksShareOneInode() throws {
        let image = try Trees.write(WriterOptions(compressor: .zstd, threads: 2)) { writer in
            let root = Node.directory()
            let shared = Node(.file(.stored(try writer.data.store(MemoryStream([1, 2, 3]), size: 3))), Attributes(mode: 0o644))
            root.directory?["a"] = shared
            root.directory?["b"] = shared
            return root
        }
        let first = try #require(try image.lookUp("a"))
        let second = try #require(try image.lookUp("b"))
        #expect(first.number == second.number)
        #expect(first.linkCount == 2)
    }

    @Test func aDirectoryOfManyNamesIsFoundByName() throws {
        let image = try Trees.write(WriterOptions(compressor: .lz4, threads: 2)) { writer in
            let root = Node.directory()
            let empty = try writer.data.store(MemoryStream([]), size: 0)
            for number in 0..<50_000 { root.directory?["file-number-\(number)"] = Node(.file(.stored(empty)), Attributes(mode: 0o644)) }
            return root
        }
        #expect(try image.entries(of: try image.inode(image.root)).count == 50_000)
        #expect(try image.lookUp("file-number-49999") != nil)
        #expect(try image.lookUp("file-number-50000") == nil)
    }

    @Test func holesTakeNoSpaceAndLargeSizesAreKept() throws {
        final class Zeros: ByteStream {
            var rest = 5 << 30
            func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
                let count = min(rest, buffer.count)
                buffer.initializeMemory(as: UInt8.self, repeating: 0)
                rest -= count
                return count
            }
        }
        var options = WriterOptions(compressor: .zstd, threads: 2)
        options.blockSize = 1 << 20
        let image = try Trees.write(options) { writer in
            let root = Node.directory()
            root.directory?["sparse"] = Node(.file(.stored(try writer.data.store(Zeros(), size: 5 << 30))), Attributes(mode: 0o644))
            return root
        }
        #expect(image.superblock.bytesUsed < 100_000)
        guard case .file(let layout) = try #require(try image.lookUp("sparse")).content else {
            Issue.record("no file")
            return
        }
        #expect(layout.size == 5 << 30)
        var byte: [UInt8] = [1]
        #expect(try byte.withUnsafeMutableBytes { try image.read(layout, at: (5 << 30) - 1, into: $0) } == 1)
        #expect(byte == [0])
    }

    @Test func equalFilesAreStoredOnce() throws {
        func size(copies: Int) throws -> UInt64 {
            var generator = Generator(state: 3)
            let bytes = (0..<500_000).map { _ in UInt8.random(in: 0...255, using: &generator) }
            return try Trees.write(WriterOptions(compressor: .zstd, threads: 2)) { writer in
                let root = Node.directory()
                for number in 0..<copies {
                    root.directory?["\(number)"] = Node(
                        .file(.stored(try writer.data.store(MemoryStream(bytes), size: UInt64(bytes.count)))), Attributes(mode: 0o644))
                }
                return root
            }.superblock.bytesUsed
        }
        let one = try size(copies: 1)
        #expect(try size(copies: 5) < one + 4096)
    }

    /// Rule of the design: a file taken over from another image is not compressed again.
    @Test func copiedFilesKeepTheirCompressedBlocks() throws {
        var generator = Generator(state: 4)
        let bytes = (0..<700_000).map { _ in UInt8.random(in: 0...9, using: &generator) }
        let options = WriterOptions(compressor: .zstd, threads: 2)
        let first = try Trees.write(options) { writer in
            let root = Node.directory()
            root.directory?["file"] = Node(
                .file(.stored(try writer.data.store(MemoryStream(bytes), size: UInt64(bytes.count)))), Attributes(mode: 0o600))
            return root
        }
        let second = try Trees.write(options) { _ in try SquashFSTree.read(first) }
        guard case .file(let old) = try #require(try first.lookUp("file")).content,
            case .file(let new) = try #require(try second.lookUp("file")).content
        else { return }
        #expect(old.blocks == new.blocks)
        #expect(try Trees.hash(second, new) == Trees.hash(bytes))
    }
}
