import Cryptography
import CryptoExtras
import FoundationEssentials
import SwiftASN1

/// What opens encrypted images: a pass phrase, or private RSA keys.
///
/// `@unchecked Sendable`: the library does not say it of its RSA keys, which do not change.
public struct EncryptionKeys: @unchecked Sendable {
    public var passphrase: SecretBytes?
    /// Private keys; each is tried on each wrapped key of an image.
    public var privateKeys: [_RSA.Encryption.PrivateKey] = []

    public init(passphrase: SecretBytes? = nil) { self.passphrase = passphrase }

    public var isEmpty: Bool { passphrase == nil && privateKeys.isEmpty }

    /// Adds the private key of a PEM file: `RSA PRIVATE KEY` (PKCS#1) or `PRIVATE KEY` (PKCS#8).
    /// - Parameter name: for messages.
    public mutating func add(privateKeyPEM pem: String, name: String) throws(EncryptionError) {
        let kind = (try? PEMDocument(pemString: pem))?.discriminator
        if pem.contains("ENCRYPTED") {
            throw .key("\(name): passphrase protected pem files not supported; `openssl rsa -in KEY -out PLAIN` takes the pass phrase away")
        }
        if kind == "PUBLIC KEY" || kind == "RSA PUBLIC KEY" { throw .key("\(name) is a public key; the private one is needed to decrypt") }
        // The label of the peers' files is not looked at, only what is in them.
        guard let document = try? PEMDocument(pemString: pem),
            let key = try? _RSA.Encryption.PrivateKey(derRepresentation: document.derBytes)
        else { throw .key("\(name): could not read an RSA private key in PEM form") }
        privateKeys.append(key)
    }
}

/// Somebody who shall be able to open an image: an RSA public key of a PEM file.
///
/// `@unchecked Sendable`: as ``EncryptionKeys``.
public struct Recipient: @unchecked Sendable {
    let key: _RSA.Encryption.PublicKey
    /// Bytes of the modulus.
    let size: Int

    /// Reads `RSA PUBLIC KEY` (PKCS#1) or `PUBLIC KEY`; of a private key the public half is taken.
    public init(pem: String, name: String) throws(EncryptionError) {
        guard let document = try? PEMDocument(pemString: pem) else {
            throw .key("\(name): could not read a PEM file with an RSA public key")
        }
        let bytes = document.derBytes
        if let key = try? _RSA.Encryption.PublicKey(derRepresentation: bytes) {
            self.key = key
        } else if let key = try? _RSA.Encryption.PrivateKey(derRepresentation: bytes) {
            self.key = key.publicKey
        } else {
            throw .key("\(name): could not read an RSA public key in PEM form")
        }
        size = key.keySizeInBits / 8
    }
}
