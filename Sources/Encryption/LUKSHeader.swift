import BlockIO
import Cryptography
import FoundationEssentials

/// The header of a LUKS2 volume ("LUKS2 On-Disk Format Specification").
package struct LUKSHeader {
    struct Keyslot: Decodable {
        struct AntiForensic: Decodable {
            var type: String
            var stripes: Int
            var hash: String
        }
        struct Area: Decodable {
            var type: String
            var offset: String
            var size: String
            var encryption: String
            var key_size: Int
        }
        struct Derivation: Decodable {
            var type: String
            var salt: String
            var hash: String?
            var iterations: Int?
            var time: Int?
            var memory: Int?
            var cpus: Int?
        }
        var type: String
        var key_size: Int
        var af: AntiForensic
        var area: Area
        var kdf: Derivation
    }
    struct Segment: Decodable {
        var type: String
        var offset: String
        var size: String
        var iv_tweak: String
        var encryption: String
        var sector_size: Int
        var flags: [String]?
    }
    struct Digest: Decodable {
        var type: String
        var keyslots: [String]
        var segments: [String]
        var hash: String
        var iterations: Int
        var salt: String
        var digest: String
    }
    private struct Document: Decodable {
        var keyslots: [String: Keyslot]
        var segments: [String: Segment]
        var digests: [String: Digest]
    }

    let keyslots: [String: Keyslot]
    let segments: [String: Segment]
    let digests: [String: Digest]

    private static let binarySize = 4096
    /// Bytes of a header with its text, at the most.
    private static let largest: UInt64 = 4 << 20

    /// Reads the first header, or the second where the first is damaged.
    package init(_ source: any BlockSource) throws(EncryptionError) {
        var json: [UInt8]?
        // The second header stands behind the first, whose size is one of these.
        for position in [0] + (14...22).map({ UInt64(1) << $0 }) {
            json = Self.text(source, at: position)
            if json != nil { break }
        }
        guard let json else { throw .corrupt(name: source.name, what: "its encrypted partition has no LUKS2 header that is whole") }
        guard let document = try? JSONDecoder().decode(Document.self, from: Data(json.prefix { $0 != 0 })) else {
            throw .unsupported(name: source.name, what: "its LUKS2 header has key slots or segments of an unknown kind")
        }
        (keyslots, segments, digests) = (document.keyslots, document.segments, document.digests)
    }

    /// The text of a header whose checksum is right.
    private static func text(_ source: any BlockSource, at position: UInt64) -> [UInt8]? {
        guard let head = try? source.bytes(at: position, count: binarySize) else { return nil }
        let magic: [UInt8] = position == 0 ? Array("LUKS".utf8) : Array("SKUL".utf8)
        guard head.starts(with: magic + [0xba, 0xbe, 0, 2]) else { return nil }
        let size = head[8..<16].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let place = head[256..<264].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard size > UInt64(binarySize), size <= largest, place == position, var all = try? source.bytes(at: position, count: Int(size))
        else {
            return nil
        }
        let expected = Array(all[448..<512])
        let name = String(decoding: all[72..<104].prefix { $0 != 0 }, as: UTF8.self)
        guard let algorithm = MessageDigest.Algorithm(rawValue: name) else { return nil }
        all.replaceSubrange(448..<512, with: repeatElement(0, count: 64))
        guard let digest = try? MessageDigest.of(all, algorithm), digest == Array(expected.prefix(digest.count)) else { return nil }
        return Array(all[binarySize...])
    }
}
