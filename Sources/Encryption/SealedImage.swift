import BlockIO
import Cryptography

/// A plain SquashFS in the form of gocryptfs: the two files of the outer image.
public struct SealedImage: Sendable {
    /// `gocryptfs.conf`.
    public let configuration: [UInt8]
    /// What the encrypted file is called.
    public let fileName: String
    /// Bytes of the encrypted file.
    public let size: UInt64
    private let plain: any BlockSource
    private let contentKey: SecretBytes

    /// Costs of scrypt: as gocryptfs has them for what people choose, and little for random text, which nobody guesses.
    static let passphraseCost = 1 << 16
    static let randomCost = 1 << 10

    /// - Parameter isRandom: the pass phrase is one of ``randomPassphrase()``.
    public init(_ plain: any BlockSource, _ passphrase: SecretBytes, isRandom: Bool) throws(EncryptionError) {
        guard passphrase.count > 0 else { throw .key("an empty pass phrase protects nothing; give another one") }
        do throws(CryptographyError) {
            let made = try GocryptfsConfiguration.make(passphrase, cost: isRandom ? Self.randomCost : Self.passphraseCost)
            configuration = Array(made.text.utf8)
            contentKey = made.contentKey
            fileName = "squashfs-" + (try RandomBytes.make(4).map { String($0 % 10) }.joined()) + "0"
        } catch { throw .key("\(error)") }
        self.plain = plain
        size = GocryptfsLayout.cipherBytes(of: plain.size)
    }

    /// The encrypted file.
    public func open() throws -> GocryptfsStream { try GocryptfsStream(plain, try AuthenticatedCipher(key: contentKey)) }

    /// What is wrapped for the recipients of an image: 128 random bits as text, as the peers have it.
    public static func randomPassphrase() throws(EncryptionError) -> SecretBytes {
        let bits: SecretBytes
        do throws(CryptographyError) { bits = try SecretBytes.random(count: 16) } catch { throw .key("\(error)") }
        let digits = Array("0123456789abcdef".utf8)
        return SecretBytes(count: 32) { target in
            bits.withBytes { bits in
                for (index, byte) in bits.enumerated() {
                    target[2 * index] = digits[Int(byte >> 4)]
                    target[2 * index + 1] = digits[Int(byte & 15)]
                }
            }
        }
    }
}
