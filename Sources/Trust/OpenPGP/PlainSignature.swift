import Crypto
import CryptoExtras
import FoundationEssentials

/// A signature by an RSA key in the form that nearly all have (RFC 4880, section 5.2.3): version 4, a hash of the SHA-2 family, and nothing
/// in it that limits what it says. It is read strictly: what is not known here is left to the library.
struct PlainSignature {
    /// What it is about (section 5.2.1).
    let kind: UInt8
    /// Unix seconds.
    let created: Int64
    /// What the key may be used for (section 5.2.3.21); nil where nothing is said.
    let keyFlags: UInt8?

    private enum Hash: UInt8 { case sha256 = 8, sha384, sha512 }
    private let hash: Hash
    /// From the version to the last subpacket that is signed.
    private let hashed: ArraySlice<UInt8>
    /// The first two bytes of the digest.
    private let start: ArraySlice<UInt8>
    private let value: ArraySlice<UInt8>

    /// - Parameters:
    ///   - body: of the packet.
    ///   - issuer: fingerprint of the key that must have made it, 20 bytes.
    /// - Returns: nil for another form, or another key.
    init?(_ body: ArraySlice<UInt8>, by issuer: [UInt8]) {
        var rest = body
        guard let head = rest.take(6), head[head.startIndex] == 4, head[head.startIndex + 2] == 1,
            let hash = Hash(rawValue: head[head.startIndex + 3]),
            let signed = rest.take(head.number(at: 4, count: 2))
        else { return nil }
        hashed = body[body.startIndex..<signed.endIndex]
        guard let counted = rest.take(2), let unsigned = rest.take(counted.number(at: 0, count: 2)), let start = rest.take(2),
            let value = rest.takeInteger(), rest.isEmpty
        else { return nil }
        (kind, self.hash, self.start, self.value) = (head[head.startIndex + 1], hash, start, value)

        var (created, flags, namesIssuer): (Int64?, UInt8?, Bool) = (nil, nil, false)
        var seen: Set<UInt8> = []
        for (area, isSigned) in [(signed, true), (unsigned, false)] {
            var area = area
            while !area.isEmpty {
                guard let (kind, isCritical, content) = area.takeSubpacket(), seen.insert(kind).inserted else { return nil }
                switch kind {
                case 16 where content.elementsEqual(issuer.suffix(8)), 33 where content.elementsEqual([4] + issuer): namesIssuer = true
                case 2 where isSigned && content.count == 4: created = Int64(content.number(at: 0, count: 4))
                // A signature, and a key, that never expire.
                case 3 where isSigned && content.allSatisfy { $0 == 0 }, 9 where isSigned && content.allSatisfy { $0 == 0 }: break
                case 27 where isSigned && content.count == 1: flags = content.first
                // Preferences of who is written to, which of several user identities comes first, features.
                case 11, 21, 22, 23, 25, 30, 34: if !isSigned { return nil }
                // Notes, such as the salt that the peers' library adds.
                case 20 where isSigned && !isCritical: seen.remove(kind)
                default: return nil
                }
            }
        }
        guard namesIssuer, let created else { return nil }
        (self.created, keyFlags) = (created, flags)
    }

    /// Whether a key has made it over a text (sections 5.2.4 and 5.2.2).
    /// - Parameter modulusCount: bytes of the key's modulus.
    func isValid(over text: [UInt8], by key: _RSA.Signing.PublicKey, modulusCount: Int) -> Bool {
        let count = UInt32(truncatingIfNeeded: hashed.count)
        let input = text + hashed + [4, 0xff] + (0..<4).map { UInt8(truncatingIfNeeded: count >> (24 - 8 * $0)) }
        func check(_ digest: some Digest) -> Bool {
            guard start.elementsEqual(digest.prefix(2)), value.count <= modulusCount else { return false }
            let padded = [UInt8](repeating: 0, count: modulusCount - value.count) + value
            return key.isValidSignature(.init(rawRepresentation: padded), for: digest, padding: .insecurePKCS1v1_5)
        }
        return switch hash {
        case .sha256: check(SHA256.hash(data: input))
        case .sha384: check(SHA384.hash(data: input))
        case .sha512: check(SHA512.hash(data: input))
        }
    }
}

extension ArraySlice where Element == UInt8 {
    /// - Returns: the first bytes, which are gone then; nil where there are fewer.
    fileprivate mutating func take(_ count: Int) -> ArraySlice? {
        guard count <= self.count else { return nil }
        defer { self = dropFirst(count) }
        return prefix(count)
    }

    /// A big-endian number. The bytes must be there.
    fileprivate func number(at offset: Int, count: Int) -> Int {
        self[startIndex + offset..<startIndex + offset + count].reduce(0) { $0 << 8 | Int($1) }
    }

    /// A multiprecision integer (section 3.2), without its length.
    mutating func takeInteger() -> ArraySlice? {
        guard let bits = take(2)?.number(at: 0, count: 2), let bytes = take((bits + 7) / 8), let first = bytes.first,
            bits == bytes.count * 8 - first.leadingZeroBitCount
        else { return nil }
        return bytes
    }

    /// A subpacket (section 5.2.3.1). A critical one must be understood.
    fileprivate mutating func takeSubpacket() -> (kind: UInt8, isCritical: Bool, content: ArraySlice)? {
        guard let first = take(1)?.first else { return nil }
        let count: Int? =
            switch first {
            case 0..<192: Int(first)
            case 255: take(4)?.number(at: 0, count: 4)
            default: take(1)?.first.map { Int(first - 192) << 8 + Int($0) + 192 }
            }
        guard let count, var packet = take(count), let kind = packet.popFirst() else { return nil }
        return (kind & 0x7f, kind & 0x80 != 0, packet)
    }
}
