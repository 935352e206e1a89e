import Cryptography

/// Where the blocks of an encrypted file are ("gocryptfs, file format": a header, then blocks with nonce and tag).
enum GocryptfsLayout {
    /// Bytes of plain text in a block.
    static let plainSize = 4096
    static let overhead = AuthenticatedCipher.nonceSize + AuthenticatedCipher.tagSize
    static let cipherSize = plainSize + overhead
    /// A version of two bytes and an identifier of 16.
    static let headerSize = 18
    static let version: [UInt8] = [0, 2]

    static func cipherBytes(of plain: UInt64) -> UInt64 {
        if plain == 0 { return 0 }
        let blocks = (plain + UInt64(plainSize) - 1) / UInt64(plainSize)
        return UInt64(headerSize) + plain + blocks * UInt64(overhead)
    }

    /// - Returns: nil for a length that no file has.
    static func plainBytes(of cipher: UInt64) -> UInt64? {
        if cipher == 0 { return 0 }
        guard cipher > UInt64(headerSize) else { return nil }
        let rest = cipher - UInt64(headerSize)
        let (blocks, tail) = rest.quotientAndRemainder(dividingBy: UInt64(cipherSize))
        guard tail == 0 || tail > UInt64(overhead) else { return nil }
        return blocks * UInt64(plainSize) + (tail == 0 ? 0 : tail - UInt64(overhead))
    }

    /// What is authenticated beside a block: its number and the file's identifier, so that blocks cannot change places.
    static func associatedData(_ block: UInt64, _ fileID: [UInt8]) -> [UInt8] {
        withUnsafeBytes(of: block.bigEndian, Array.init) + fileID
    }
}
