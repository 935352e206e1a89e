import Glibc
import Linux

/// Somebody whose signature counts.
public enum TrustedSigner: Sendable {
    /// An OpenPGP key: its fingerprint, 40 upper-case digits, or a key identifier of 16.
    case openPGP(String)
    /// A PEM key.
    case pem(VerificationKey)

    /// Reads what people write: digits of a fingerprint, or the path of a PEM file with a public key or a certificate.
    /// - Throws: ``TrustError/policy(_:)``
    public init(_ text: String) throws(TrustError) {
        if let digits = OpenPGPKey.identifier(text) {
            self = .openPGP(digits)
            return
        }
        let pem: String
        do throws(SystemError) { pem = try Files.readText(text, limit: 1 << 20) } catch {
            throw .policy(
                "\"\(text)\" is neither a fingerprint of 16 or 40 digits nor a PEM file that can be read: \(error.reason.lowercased())")
        }
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            // Behind the certificate its issuers may stand, up to the root that is trusted.
            self = .pem(try CodeCertificate.keyByChild(pem: pem, name: text))
        } else {
            do throws(TrustError) { self = .pem(try VerificationKey(pem: pem)) } catch { throw .policy("\(text): \(error)") }
        }
    }

    func isMet(by signer: Signer) -> Bool {
        switch self {
        case .openPGP(let digits): signer.openPGP?.fingerprint.hasSuffix(digits) ?? false
        case .pem(let key): signer.pemFingerprint == key.fingerprint
        }
    }

    /// For people.
    var name: String {
        switch self {
        case .openPGP(let digits): digits
        case .pem(let key): key.fingerprint
        }
    }
}
