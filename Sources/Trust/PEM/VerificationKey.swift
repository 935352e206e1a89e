import Crypto
import CryptoExtras
import FoundationEssentials
import SwiftASN1

/// The public half of a signing key, of a PEM file.
public enum VerificationKey: Sendable {
    case rsa(_RSA.Signing.PublicKey)
    case p256(P256.Signing.PublicKey)
    case p384(P384.Signing.PublicKey)
    case p521(P521.Signing.PublicKey)
    case ed25519(Curve25519.Signing.PublicKey)

    /// Reads `PUBLIC KEY` (SubjectPublicKeyInfo, RFC 5280) or `RSA PUBLIC KEY` (PKCS#1, RFC 8017).
    /// - Throws: ``TrustError/key(_:)`` with the peers' sentence.
    public init(pem: String) throws(TrustError) {
        guard let document = try? PEMDocument(pemString: pem) else {
            throw .key("Failed to load key material: PEM decoding failed; a file with -----BEGIN PUBLIC KEY----- is wanted")
        }
        let kind = document.discriminator
        guard kind == "PUBLIC KEY" || kind == "RSA PUBLIC KEY" else {
            throw .key("Failed to load key material: unknown Public key PEM file type: \(kind). Are you passing the correct public key?")
        }
        let one = document.pemString
        if let key = try? _RSA.Signing.PublicKey(pemRepresentation: one) {
            self = .rsa(key)
        } else if let key = try? P256.Signing.PublicKey(pemRepresentation: one) {
            self = .p256(key)
        } else if let key = try? Curve25519.Signing.PublicKey(pemRepresentation: one) {
            self = .ed25519(key)
        } else if let key = try? P384.Signing.PublicKey(pemRepresentation: one) {
            self = .p384(key)
        } else if let key = try? P521.Signing.PublicKey(pemRepresentation: one) {
            self = .p521(key)
        } else {
            throw .key(
                "Failed to load key material: the public key is none of RSA (2048 bits and more), ECDSA (P-256, P-384, P-521) and Ed25519")
        }
    }

    /// As a PEM file.
    public var pem: String {
        switch self {
        case .rsa(let key): key.pemRepresentation
        case .p256(let key): key.pemRepresentation
        case .p384(let key): key.pemRepresentation
        case .p521(let key): key.pemRepresentation
        case .ed25519(let key): key.pemRepresentation
        }
    }

    /// Whether it made a signature over a text: PKCS#1 v1.5 for RSA, DER for ECDSA, both over SHA-256.
    func accepts(_ signature: [UInt8], over text: [UInt8]) -> Bool {
        let digest = SHA256.hash(data: text)
        switch self {
        case .rsa(let key):
            return key.isValidSignature(_RSA.Signing.RSASignature(rawRepresentation: signature), for: digest, padding: .insecurePKCS1v1_5)
        case .p256(let key):
            return (try? P256.Signing.ECDSASignature(derRepresentation: signature)).map { key.isValidSignature($0, for: digest) } ?? false
        case .p384(let key):
            return (try? P384.Signing.ECDSASignature(derRepresentation: signature)).map { key.isValidSignature($0, for: digest) } ?? false
        case .p521(let key):
            return (try? P521.Signing.ECDSASignature(derRepresentation: signature)).map { key.isValidSignature($0, for: digest) } ?? false
        case .ed25519(let key): return key.isValidSignature(signature, for: text)
        }
    }

    /// The fingerprint that OpenSSH shows: `SHA256:` and the digest of the key in its wire form (RFC 4253, section 6.6).
    public var fingerprint: String {
        var wire: [UInt8] = []
        func add(_ bytes: some Collection<UInt8>) {
            wire += withUnsafeBytes(of: UInt32(bytes.count).bigEndian, Array.init)
            wire += bytes
        }
        /// A whole number: without zeros in front, and with one where it would look negative.
        func addNumber(_ bytes: Data) {
            var digits = Array(bytes.drop { $0 == 0 })
            if let first = digits.first, first & 0x80 != 0 { digits.insert(0, at: 0) }
            add(digits)
        }
        func addCurve(_ name: String, _ point: Data) {
            add(Array("ecdsa-sha2-\(name)".utf8))
            add(Array(name.utf8))
            add(Array(point))
        }
        switch self {
        case .rsa(let key):
            add(Array("ssh-rsa".utf8))
            if let numbers = try? key.getKeyPrimitives() {
                addNumber(numbers.publicExponent)
                addNumber(numbers.modulus)
            }
        case .p256(let key): addCurve("nistp256", key.x963Representation)
        case .p384(let key): addCurve("nistp384", key.x963Representation)
        case .p521(let key): addCurve("nistp521", key.x963Representation)
        case .ed25519(let key):
            add(Array("ssh-ed25519".utf8))
            add(Array(key.rawRepresentation))
        }
        let digest = Data(SHA256.hash(data: wire)).base64EncodedString()
        return "SHA256:" + digest.prefix { $0 != "=" }
    }
}
