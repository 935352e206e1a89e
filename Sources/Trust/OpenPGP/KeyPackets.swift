import Cryptography
import Linux

/// A keyring cut into its keys without reading what is in them (RFC 4880, section 4.2): of many keys only the wanted ones are
/// handed to the library, which checks each for a millisecond.
package struct KeyPackets {
    package struct Key {
        package let fingerprint: String
        /// Of a public or secret key, its user identities, signatures and subkeys.
        package var packets: ArraySlice<UInt8>
        /// Those before the first subkey.
        package var primary: ArraySlice<UInt8>
    }

    package private(set) var keys: [Key] = []

    /// Reads until the end, or until something that is no packet.
    package init(_ bytes: [UInt8]) throws(CryptographyError) {
        var position = 0
        var start: (fingerprint: String, position: Int)?
        var firstSubkey: Int?
        func finish() {
            guard let start else { return }
            let end = firstSubkey ?? position
            keys.append(
                Key(fingerprint: start.fingerprint, packets: bytes[start.position..<position], primary: bytes[start.position..<end]))
            firstSubkey = nil
        }
        while let packet = Self.packet(bytes, at: position) {
            // A public or a secret key begins; subkeys have other tags.
            if packet.tag == 6 || packet.tag == 5 {
                finish()
                let body = bytes[packet.body]
                start = (try Self.fingerprint(packet.tag == 6 ? body : Self.publicPart(body)), position)
            } else if packet.tag == 14 || packet.tag == 7, start != nil {
                firstSubkey = firstSubkey ?? position
            }
            position = packet.body.upperBound
        }
        finish()
    }

    /// The tags and contents of packets, one behind the other.
    /// - Returns: nothing where something else is among them.
    static func bodies(_ packets: ArraySlice<UInt8>) -> [(tag: UInt8, body: ArraySlice<UInt8>)] {
        let bytes = Array(packets)
        var out: [(tag: UInt8, body: ArraySlice<UInt8>)] = []
        var position = 0
        while position < bytes.count {
            guard let packet = packet(bytes, at: position) else { return [] }
            out.append((packet.tag, bytes[packet.body]))
            position = packet.body.upperBound
        }
        return out
    }

    /// What a secret key has in common with its public half (RFC 4880, section 5.5; RFC 6637, section 9).
    private static func publicPart(_ body: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let bytes = Array(body)
        guard bytes.count > 6 else { return [] }
        var position = 6
        func skipNumber() {
            guard position + 2 <= bytes.count else { return position = bytes.count + 1 }
            position += 2 + (Int(bytes[position]) << 8 + Int(bytes[position + 1]) + 7) / 8
        }
        func skipCounted() { position += position < bytes.count ? 1 + Int(bytes[position]) : 1 }
        switch bytes[5] {
        case 1...3: for _ in 0..<2 { skipNumber() }
        case 16: for _ in 0..<3 { skipNumber() }
        case 17: for _ in 0..<4 { skipNumber() }
        case 19, 22:
            skipCounted()
            skipNumber()
        case 18:
            skipCounted()
            skipNumber()
            skipCounted()
        default: return []
        }
        return position <= bytes.count ? bytes[..<position] : []
    }

    /// Version 4: SHA-1 of the packet behind a byte and two of length (RFC 4880, section 12.2). Others have none here.
    private static func fingerprint(_ body: ArraySlice<UInt8>) throws(CryptographyError) -> String {
        guard body.first == 4, body.count > 6, body.count <= 0xffff else { return "" }
        let head: [UInt8] = [0x99, UInt8(body.count >> 8), UInt8(body.count & 0xff)]
        return Hexadecimal.text(try MessageDigest.of(head + body, .sha1), upperCase: true)
    }

    private static func packet(_ bytes: [UInt8], at position: Int) -> (tag: UInt8, body: Range<Int>)? {
        guard position < bytes.count, bytes[position] & 0x80 != 0 else { return nil }
        let head = bytes[position]
        func number(_ count: Int, at start: Int) -> Int? {
            guard start + count <= bytes.count else { return nil }
            return bytes[start..<start + count].reduce(0) { $0 << 8 | Int($1) }
        }
        let (tag, start, length): (UInt8, Int, Int?)
        if head & 0x40 == 0 {
            guard head & 3 != 3 else { return nil }
            let count = 1 << Int(head & 3)
            (tag, start, length) = (head >> 2 & 15, position + 1 + count, number(count, at: position + 1))
        } else {
            guard let first = number(1, at: position + 1) else { return nil }
            switch first {
            case 0..<192: (tag, start, length) = (head & 63, position + 2, first)
            case 192..<224:
                (tag, start, length) = (head & 63, position + 3, number(1, at: position + 2).map { (first - 192) << 8 + $0 + 192 })
            case 255: (tag, start, length) = (head & 63, position + 6, number(4, at: position + 2))
            // Lengths in parts are for data, not for keys.
            default: return nil
            }
        }
        guard let length, length <= bytes.count - start else { return nil }
        return (tag, start..<start + length)
    }
}
