import Cryptography
import FoundationEssentials

/// The file `gocryptfs.conf`: how the master key is encrypted with the pass phrase ("gocryptfs, file format").
package struct GocryptfsConfiguration {
    private struct Document: Decodable {
        struct Scrypt: Decodable {
            var Salt: String
            var N: Int
            var R: Int
            var P: Int
            var KeyLen: Int
        }
        var EncryptedKey: String
        var ScryptObject: Scrypt
        var Version: Int
        var FeatureFlags: [String]
    }

    private static let flags: Set<String> = ["HKDF", "GCMIV128", "PlaintextNames"]
    private static let info = "AES-GCM file content encryption"
    /// The master key is sealed as if it were the first block of a file.
    private static let sealedWith = [UInt8](repeating: 0, count: 8)

    private let encryptedKey: [UInt8]
    private let salt: [UInt8]
    private let cost: Int
    private let parallelism: Int

    /// Costs of scrypt that are not meant to stop the machine: at most 2 GiB.
    private static let costs = 1 << 10...1 << 21

    package init(parsing bytes: [UInt8], name: String) throws(EncryptionError) {
        guard let document = try? JSONDecoder().decode(Document.self, from: Data(bytes)),
            let key = Data(base64Encoded: document.EncryptedKey), let salt = Data(base64Encoded: document.ScryptObject.Salt)
        else { throw .corrupt(name: name, what: "its gocryptfs.conf makes no sense") }
        let scrypt = document.ScryptObject
        guard document.Version == 2, Set(document.FeatureFlags) == Self.flags, scrypt.R == 8, scrypt.KeyLen == 32 else {
            throw .unsupported(
                name: name, what: "its gocryptfs.conf asks for features beyond \(Self.flags.sorted().joined(separator: ", "))")
        }
        guard Self.costs.contains(scrypt.N), scrypt.N.nonzeroBitCount == 1, (1...16).contains(scrypt.P), key.count == 64, salt.count >= 8
        else {
            throw .corrupt(name: name, what: "its gocryptfs.conf has parameters that nobody uses")
        }
        (encryptedKey, self.salt, cost, parallelism) = (Array(key), Array(salt), scrypt.N, scrypt.P)
    }

    /// The key that file contents are encrypted with.
    /// - Throws: ``CryptographyError/notAuthentic`` for another pass phrase.
    package func contentKey(_ passphrase: SecretBytes) throws(CryptographyError) -> SecretBytes {
        let derived = try KeyDerivation.scrypt(passphrase, salt: salt, cost: cost, parallelism: parallelism, count: 32)
        let cipher = try AuthenticatedCipher(key: KeyDerivation.hkdf(derived, info: Self.info, count: 32))
        let master = try SecretBytes(count: 32) { target throws(CryptographyError) in
            try Self.pieces(encryptedKey) { (nonce, cipherText, tag) throws(CryptographyError) in
                try Self.sealedWith.span.bytes.withUnsafeBytes { data throws(CryptographyError) in
                    try cipher.open(cipherText, nonce: nonce, tag: tag, authenticating: data, into: target)
                }
            }
        }
        return KeyDerivation.hkdf(master, info: Self.info, count: 32)
    }

    private static func pieces(
        _ sealed: [UInt8],
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws(CryptographyError) -> Void
    ) throws(CryptographyError) {
        try sealed.span.bytes.withUnsafeBytes { bytes throws(CryptographyError) in
            try body(
                UnsafeRawBufferPointer(rebasing: bytes[..<16]), UnsafeRawBufferPointer(rebasing: bytes[16..<bytes.count - 16]),
                UnsafeRawBufferPointer(rebasing: bytes[(bytes.count - 16)...]))
        }
    }

    // MARK: Making

    /// A new configuration, and the key for contents.
    /// - Parameter cost: of scrypt: how long guessing a pass phrase takes.
    static func make(_ passphrase: SecretBytes, cost: Int) throws(CryptographyError) -> (text: String, contentKey: SecretBytes) {
        let salt = try RandomBytes.make(32)
        let derived = try KeyDerivation.scrypt(passphrase, salt: salt, cost: cost, parallelism: 1, count: 32)
        let cipher = try AuthenticatedCipher(key: KeyDerivation.hkdf(derived, info: info, count: 32))
        let master = try SecretBytes.random(count: 32)
        let nonce = try RandomBytes.make(AuthenticatedCipher.nonceSize)
        var sealed = nonce + [UInt8](repeating: 0, count: 32 + AuthenticatedCipher.tagSize)
        var failure: CryptographyError?
        sealed.withUnsafeMutableBytes { target in
            master.withBytes { plain in
                nonce.withUnsafeBytes { nonce in
                    sealedWith.withUnsafeBytes { data in
                        do throws(CryptographyError) {
                            try cipher.seal(
                                plain, nonce: nonce, authenticating: data, into: UnsafeMutableRawBufferPointer(rebasing: target[16..<48]),
                                tag: UnsafeMutableRawBufferPointer(rebasing: target[48...]))
                        } catch { failure = error }
                    }
                }
            }
        }
        if let failure { throw failure }
        let text = """
            {
            \t"Creator": "singularity",
            \t"EncryptedKey": "\(Data(sealed).base64EncodedString())",
            \t"ScryptObject": {
            \t\t"Salt": "\(Data(salt).base64EncodedString())",
            \t\t"N": \(cost),
            \t\t"R": 8,
            \t\t"P": 1,
            \t\t"KeyLen": 32
            \t},
            \t"Version": 2,
            \t"FeatureFlags": [
            \t\t"HKDF",
            \t\t"GCMIV128",
            \t\t"PlaintextNames"
            \t]
            }

            """
        return (text, KeyDerivation.hkdf(master, info: info, count: 32))
    }
}
