import Crypto
import CryptoExtras
import FoundationEssentials
import SwiftASN1

/// A private key of a PEM file.
public enum SigningKey: Sendable {
    case rsa(_RSA.Signing.PrivateKey)
    case p256(P256.Signing.PrivateKey)
    case p384(P384.Signing.PrivateKey)
    case p521(P521.Signing.PrivateKey)
    case ed25519(Curve25519.Signing.PrivateKey)

    /// Reads `PRIVATE KEY` (PKCS#8, RFC 5208), `RSA PRIVATE KEY` (PKCS#1) or `EC PRIVATE KEY` (SEC 1).
    public init(pem: String) throws(TrustError) {
        guard let document = try? PEMDocument(pemString: pem) else {
            throw .key("Failed to load key material: PEM decoding failed; a file with -----BEGIN PRIVATE KEY----- is wanted")
        }
        let kind = document.discriminator
        if kind.hasPrefix("ENCRYPTED") || pem.contains("Proc-Type: 4,ENCRYPTED") {
            throw .key(
                "Failed to load key material: the key is protected by a pass phrase, which this version cannot take away; `openssl pkey -in KEY -out PLAIN` does"
            )
        }
        guard ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"].contains(kind) else {
            throw .key("Failed to load key material: unknown Private key PEM file type: \(kind). Are you passing the correct private key?")
        }
        let one = document.pemString
        if let key = try? _RSA.Signing.PrivateKey(pemRepresentation: one) {
            self = .rsa(key)
        } else if let key = try? P256.Signing.PrivateKey(pemRepresentation: one) {
            self = .p256(key)
        } else if let key = try? Curve25519.Signing.PrivateKey(pemRepresentation: one) {
            self = .ed25519(key)
        } else if let key = try? P384.Signing.PrivateKey(pemRepresentation: one) {
            self = .p384(key)
        } else if let key = try? P521.Signing.PrivateKey(pemRepresentation: one) {
            self = .p521(key)
        } else {
            throw .key(
                "Failed to load key material: the private key is none of RSA (2048 bits and more), ECDSA (P-256, P-384, P-521) and Ed25519")
        }
    }

    public var publicKey: VerificationKey {
        switch self {
        case .rsa(let key): .rsa(key.publicKey)
        case .p256(let key): .p256(key.publicKey)
        case .p384(let key): .p384(key.publicKey)
        case .p521(let key): .p521(key.publicKey)
        case .ed25519(let key): .ed25519(key.publicKey)
        }
    }

    /// Signs a text as ``VerificationKey/accepts(_:over:)`` checks it.
    func signature(over text: [UInt8]) throws -> [UInt8] {
        let digest = SHA256.hash(data: text)
        switch self {
        case .rsa(let key): return Array(try key.signature(for: digest, padding: .insecurePKCS1v1_5).rawRepresentation)
        case .p256(let key): return Array(try key.signature(for: digest).derRepresentation)
        case .p384(let key): return Array(try key.signature(for: digest).derRepresentation)
        case .p521(let key): return Array(try key.signature(for: digest).derRepresentation)
        case .ed25519(let key): return Array(try key.signature(for: text))
        }
    }
}
