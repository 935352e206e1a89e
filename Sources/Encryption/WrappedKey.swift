import Cryptography
import CryptoExtras
import FoundationEssentials
import SIF
import SwiftASN1

/// The pass phrase of an image, encrypted for an RSA key: a cryptographic message of the SIF ("SIF, encrypted images").
///
/// A PEM block of the type `MESSAGE` around one octet string with the cipher text of RSA-OAEP (SHA-256).
public enum WrappedKey {
    /// The details of its object.
    public static let detail = ObjectDetail.message(format: 2, kind: 0x200)

    /// Bytes that OAEP with SHA-256 needs in each block beside the text (RFC 8017, section 7.1.1).
    private static let overhead = 66

    /// The payload of the object.
    public static func wrap(_ passphrase: SecretBytes, for recipient: Recipient) throws(EncryptionError) -> [UInt8] {
        do {
            let most = recipient.size - overhead
            guard most > 0 else { throw EncryptionError.key("an RSA key of \(recipient.size * 8) bits is too small") }
            var cipherText: [UInt8] = []
            for start in stride(from: 0, to: passphrase.count, by: most) {
                let piece = passphrase.part(start..<min(passphrase.count, start + most))
                cipherText += try piece.withBytes { try recipient.key.encrypt(Data($0), padding: .PKCS1_OAEP_SHA256) }
            }
            var serializer = DER.Serializer()
            try serializer.serialize(ASN1OctetString(contentBytes: cipherText[...]))
            return Array((PEMDocument(type: "MESSAGE", derBytes: serializer.serializedBytes).pemString + "\n").utf8)
        } catch let error as EncryptionError { throw error } catch { throw .key("the key could not be encrypted: \(error)") }
    }

    /// Bits of the key that a message is for, 0 for what is no message.
    public static func bits(_ payload: [UInt8]) -> Int { (cipherText(payload)?.count ?? 0) * 8 }

    private static func cipherText(_ payload: [UInt8]) -> [UInt8]? {
        guard let document = try? PEMDocument(pemString: String(decoding: payload, as: UTF8.self)), document.discriminator == "MESSAGE",
            let octets = try? ASN1OctetString(derEncoded: document.derBytes)
        else { return nil }
        return Array(octets.bytes)
    }

    /// - Returns: nil where the message is not for this key.
    package static func unwrap(_ payload: [UInt8], with key: _RSA.Encryption.PrivateKey) -> SecretBytes? {
        guard let cipherText = cipherText(payload) else { return nil }
        let size = key.keySizeInBits / 8
        guard !cipherText.isEmpty, cipherText.count.isMultiple(of: size) else { return nil }
        var plain: [UInt8] = []
        defer { plain.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
        plain.reserveCapacity(cipherText.count)
        for start in stride(from: 0, to: cipherText.count, by: size) {
            guard var piece = try? key.decrypt(Data(cipherText[start..<start + size]), padding: .PKCS1_OAEP_SHA256) else { return nil }
            plain += piece
            piece.withUnsafeMutableBytes { SecretBytes.wipe($0) }
        }
        return SecretBytes(taking: &plain)
    }
}
