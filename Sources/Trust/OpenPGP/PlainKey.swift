import Crypto
import CryptoExtras
import Linux

/// A public key in the form that `key newpair`, the peers and GnuPG make: RSA, one user identity, signed by itself, and valid for ever.
///
/// Its signatures are checked here: the library takes 8 ms to be loaded and to check one, which every start of a container would wait for
/// where a site wants signatures. Only good ones are told of. Keys and signatures of other forms, and all that is not good,
/// are the library's, which says why.
package struct PlainKey {
    private let key: _RSA.Signing.PublicKey
    private let modulusCount: Int
    private let fingerprint: [UInt8]
    private let description: OpenPGPKey

    /// - Parameter now: Unix seconds.
    /// - Returns: nil for another form, and for a key whose own signature does not hold.
    package init?(_ packets: KeyPackets.Key, from place: OpenPGPKey.Place, now: Int64) {
        guard let fingerprint = Hexadecimal.bytes(packets.fingerprint), fingerprint.count == 20 else { return nil }
        let parts = KeyPackets.bodies(packets.primary)
        guard parts.map(\.tag) == [6, 13, 2] else { return nil }
        let (body, identity) = (parts[0].body, parts[1].body)
        var rest = body
        guard rest.popFirst() == 4, body.count <= 0xffff, identity.count <= 0xffff else { return nil }
        let time = rest.prefix(4)
        rest = rest.dropFirst(4)
        guard rest.popFirst() == 1, let modulus = rest.takeInteger(), let exponent = rest.takeInteger(), rest.isEmpty,
            let key = try? _RSA.Signing.PublicKey(n: Array(modulus), e: Array(exponent)),
            let signature = PlainSignature(parts[2].body, by: fingerprint),
            let name = String(validating: identity, as: UTF8.self)
        else { return nil }
        let created = time.reduce(Int64(0)) { $0 << 8 | Int64($1) }
        // It certifies itself, and is meant to sign.
        guard 0x10...0x13 ~= signature.kind, let flags = signature.keyFlags, flags & 2 != 0, created <= signature.created,
            signature.created <= now
        else { return nil }
        let text =
            [0x99, UInt8(body.count >> 8), UInt8(body.count & 0xff)] + body
            + [0xb4, 0, 0, UInt8(identity.count >> 8), UInt8(identity.count & 0xff)] + identity
        guard signature.isValid(over: text, by: key, modulusCount: modulus.count) else { return nil }
        (self.key, modulusCount, self.fingerprint) = (key, modulus.count, fingerprint)
        description = OpenPGPKey(
            fingerprint: packets.fingerprint, userIDs: [name], created: created, expires: nil,
            bits: modulus.count * 8 - (modulus.first?.leadingZeroBitCount ?? 0), algorithm: "RSA", isRevoked: false, hasSecret: false,
            isProtected: false, place: place)
    }

    /// Checks the signature of a text.
    /// - Parameters:
    ///   - signature: one signature packet.
    ///   - now: Unix seconds.
    /// - Returns: the verdict on a good one, nil for all others.
    package func accept(_ signature: [UInt8], of text: [UInt8], now: Int64) -> OpenPGPKeys.Verdict? {
        let parts = KeyPackets.bodies(signature[...])
        // Lines end with CR LF where a text is signed; what looks like such an end before is not for here.
        guard parts.map(\.tag) == [2], !text.contains(UInt8(ascii: "\r")),
            let signature = PlainSignature(parts[0].body, by: fingerprint), signature.kind == 1,
            description.created <= signature.created, signature.created <= now
        else { return nil }
        var lines: [UInt8] = []
        lines.reserveCapacity(text.count + 64)
        for byte in text {
            if byte == UInt8(ascii: "\n") { lines.append(UInt8(ascii: "\r")) }
            lines.append(byte)
        }
        guard signature.isValid(over: lines, by: key, modulusCount: modulusCount) else { return nil }
        return OpenPGPKeys.Verdict(key: description, keyID: description.keyID, failure: nil)
    }
}
