import Cryptography
import Glibc

/// Encrypts and decrypts single blocks of a volume.
struct BlockSealing: Sendable {
    private let cipher: AuthenticatedCipher
    /// Of the volume, as two numbers.
    private let identifier: (UInt64, UInt64)

    init(_ key: VolumeKey) throws(CryptographyError) {
        cipher = try AuthenticatedCipher(key: key.contentKey)
        identifier = key.identifier.withUnsafeBytes {
            ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
    }

    /// What is authenticated beside a block.
    struct Place {
        var number: UInt64
        /// 0 for a block in its place; of a pinned one, the pair that it is in and its version.
        var pair: UInt64 = 0
        var version: UInt64 = 0
    }

    /// Decrypts a block where it is.
    /// - Parameter entry: nonce and tag.
    func open(_ block: UnsafeMutableRawBufferPointer, _ entry: UnsafeRawBufferPointer, _ place: Place) throws(CryptographyError) {
        var data = associated(place)
        try Self.bytes(&data) { data throws(CryptographyError) in
            try cipher.open(
                UnsafeRawBufferPointer(block), nonce: UnsafeRawBufferPointer(rebasing: entry[..<AuthenticatedCipher.nonceSize]),
                tag: UnsafeRawBufferPointer(rebasing: entry[AuthenticatedCipher.nonceSize...]), authenticating: data, into: block)
        }
    }

    /// Encrypts a block.
    /// - Parameter entry: has a new nonce, and gets the tag.
    func seal(
        _ plain: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, _ entry: UnsafeMutableRawBufferPointer, _ place: Place
    ) throws(CryptographyError) {
        var data = associated(place)
        try Self.bytes(&data) { data throws(CryptographyError) in
            try cipher.seal(
                plain, nonce: UnsafeRawBufferPointer(rebasing: entry[..<AuthenticatedCipher.nonceSize]), authenticating: data,
                into: target, tag: UnsafeMutableRawBufferPointer(rebasing: entry[AuthenticatedCipher.nonceSize...]))
        }
    }

    private typealias Associated = (UInt64, UInt64, UInt64, UInt64, UInt64)

    private func associated(_ place: Place) -> Associated {
        (place.number.littleEndian, place.pair.littleEndian, place.version.littleEndian, identifier.0, identifier.1)
    }

    private static func bytes(
        _ data: inout Associated, _ body: (UnsafeRawBufferPointer) throws(CryptographyError) -> Void
    ) throws(CryptographyError) {
        var failure: CryptographyError?
        withUnsafeBytes(of: &data) { bytes in
            do throws(CryptographyError) { try body(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}
