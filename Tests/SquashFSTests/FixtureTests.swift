import BlockIO
import Crypto
import Foundation
import SquashFS
import TestSupport
import Testing

/// Images made by mksquashfs.
@Suite struct FixtureTests {
    @Test(arguments: ["gzip", "lz4", "xz", "zstd"]) func everyFileOfMksquashfsReadsRight(_ compressor: String) throws {
        let image = try SquashFSImage(MemorySource(try Fixture.bytes("features-\(compressor).sqfs")))
        for line in try Fixture.text("features.sha256.txt").split(separator: "\n") {
            let path = String(line.dropFirst(66))
            let inode = try #require(try image.lookUp(path.hasPrefix("./") ? String(path.dropFirst(2)) : path), "\(path)")
            let content = try image.content(of: inode, limit: 64 << 20)
            let sum = SHA256.hash(data: content).map { String(format: "%02x", $0) }.joined()
            #expect(sum == line.prefix(64), "\(path)")
        }
    }

    @Test func extendedAttributesReadRight() throws {
        let image = try SquashFSImage(MemorySource(try Fixture.bytes("features-zstd.sqfs")))
        func values(_ path: String) throws -> [String: String] {
            let inode = try #require(try image.lookUp(path))
            return Dictionary(
                uniqueKeysWithValues: try image.xattrs(of: inode).map { ($0.name, String(decoding: $0.value, as: UTF8.self)) })
        }
        #expect(try values("hardlink") == ["user.comment": "hello"])
        #expect(try values("dir")["trusted.overlay.opaque"] == "y")
        #expect(try values("compressible")["user.big"]?.utf8.count == 154)
    }

    // MARK: Damage

    /// Whatever is wrong with an image, reading it ends with an error of the reader's own, or with wrong bytes, never
    /// otherwise. (The entry point for a fuzzer is the same.)
    private func read(_ bytes: [UInt8]) {
        do { _ = try Trees.describe(try SquashFSImage(MemorySource(bytes), cacheSize: 1 << 20)) } catch {
            #expect(error is SquashFSError, "\(error)")
        }
    }

    @Test(arguments: ["gzip", "lz4", "xz", "zstd"]) func damagedBytesAreErrorsNotCrashes(_ compressor: String) throws {
        let whole = try Fixture.bytes("features-\(compressor).sqfs")
        var generator = Generator(state: 11)
        for round in 0..<250 {
            var bytes = whole
            // The superblock and the tables at the end are where most of the structure is.
            let position =
                switch round % 3 {
                case 0: Int.random(in: 0..<96, using: &generator)
                case 1: Int.random(in: max(0, bytes.count - 8000)..<bytes.count, using: &generator)
                default: Int.random(in: 0..<bytes.count, using: &generator)
                }
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = min(bytes.count - 1, position + Int.random(in: 0...8, using: &generator))
                bytes[place] = UInt8.random(in: 0...255, using: &generator)
            }
            read(bytes)
        }
    }

    @Test func truncatedImagesAreErrors() throws {
        let whole = try Fixture.bytes("features-zstd.sqfs")
        for count in stride(from: 0, to: whole.count - 4096, by: 397) {
            #expect(throws: SquashFSError.self) {
                _ = try Trees.describe(try SquashFSImage(MemorySource(Array(whole.prefix(count)))))
            }
        }
    }
}
