import Crypto
import CryptoExtras
import FoundationEssentials
import Linux
import SwiftASN1
import X509

/// Keys of X.509 certificates that may sign code, checked up to a root (RFC 5280).
public enum CodeCertificate {
    /// Sends a request of RFC 6960 to a responder and returns its answer.
    public typealias OCSPQuery = @Sendable (_ request: [UInt8], _ address: String) async throws -> [UInt8]

    /// Checks a certificate and gives its key.
    /// - Parameters:
    ///   - pem: one certificate.
    ///   - roots: PEM bundle of certificates that are trusted; nil for the system's.
    ///   - intermediates: PEM bundle of certificates between them and the certificate.
    ///   - ocsp: asks responders whether certificates of the chain were revoked; nil does not ask.
    public static func key(
        pem: String, roots: String?, intermediates: String?, ocsp: OCSPQuery?
    ) throws(TrustError) -> VerificationKey {
        guard let leaf = try? Certificate(pemEncoded: pem) else {
            throw .certificate("the certificate cannot be read; a file with one -----BEGIN CERTIFICATE----- is wanted")
        }
        let store =
            try roots.map { (text) throws(TrustError) in CertificateStore(try bundle(text, "root certificates")) } ?? .systemTrustRoots
        let between = CertificateStore(
            try intermediates.map { (text) throws(TrustError) in try bundle(text, "intermediate certificates") } ?? [])
        let result: CertificateValidationResult
        do {
            result = try Blocking.run {
                var verifier = Verifier(rootCertificates: store) {
                    RFC5280Policy()
                    CodeSigningPolicy()
                }
                let plain = await verifier.validate(leaf: leaf, intermediates: between)
                guard let ocsp, case .validCertificate = plain else { return plain }
                var strict = Verifier(rootCertificates: store) {
                    RFC5280Policy()
                    CodeSigningPolicy()
                    // No answer is no proof: the check was asked for.
                    OCSPVerifierPolicy(failureMode: .hard, requester: Requester(query: ocsp))
                }
                return await strict.validate(leaf: leaf, intermediates: between)
            }
        } catch { throw .certificate("\(error)") }
        guard case .validCertificate = result else { throw .certificate(reason(result, leaf)) }
        return try publicKey(of: leaf)
    }

    /// The key of a certificate, checked by another process: the check needs threads, and who starts a container may have none.
    /// - Parameter pem: the certificate, and behind it those of its issuers. The last one, where it is its own issuer, is trusted;
    ///   without such a one the system's roots are.
    static func keyByChild(pem: String, name: String) throws(TrustError) -> VerificationKey {
        guard let all = try? PEMDocument.parseMultiple(pemString: pem), let first = all.first else {
            throw .policy("\(name): the certificate cannot be read")
        }
        let last = all.dropFirst().last.flatMap { document in
            (try? Certificate(pemDocument: document)).flatMap { $0.issuer == $0.subject ? document.pemString : nil }
        }
        let between = all.dropFirst().map(\.pemString).joined(separator: "\n")
        var failure = "its check was broken off"
        let answer: [UInt8]?
        do throws(SystemError) {
            answer = try Process.inChild(
                {
                    do throws(TrustError) {
                        let key = try key(pem: first.pemString, roots: last, intermediates: between.isEmpty ? nil : between, ocsp: nil)
                        return Array("+\(key.pem)".utf8)
                    } catch { return Array("-\(error)".utf8) }
                }, failed: { _ in })
        } catch { throw .policy("\(name): \(error)") }
        let text = String(decoding: (answer ?? []).dropFirst(), as: UTF8.self)
        if answer?.first == UInt8(ascii: "-") { failure = text }
        guard answer?.first == UInt8(ascii: "+") else { throw .policy("\(name): \(failure)") }
        return try VerificationKey(pem: text)
    }

    private static func bundle(_ pem: String, _ what: String) throws(TrustError) -> [Certificate] {
        guard let documents = try? PEMDocument.parseMultiple(pemString: pem), !documents.isEmpty,
            let certificates = try? documents.map({ try Certificate(pemDocument: $0) })
        else { throw .certificate("the \(what) cannot be read; a PEM file with certificates is wanted") }
        return certificates
    }

    private static func publicKey(of leaf: Certificate) throws(TrustError) -> VerificationKey {
        if let key = _RSA.Signing.PublicKey(leaf.publicKey) { return .rsa(key) }
        if let key = P256.Signing.PublicKey(leaf.publicKey) { return .p256(key) }
        if let key = P384.Signing.PublicKey(leaf.publicKey) { return .p384(key) }
        if let key = P521.Signing.PublicKey(leaf.publicKey) { return .p521(key) }
        if let key = Curve25519.Signing.PublicKey(leaf.publicKey) { return .ed25519(key) }
        throw .certificate("the certificate's key is none of RSA, ECDSA and Ed25519")
    }

    /// The peers' words for why a chain is refused.
    private static func reason(_ result: CertificateValidationResult, _ leaf: Certificate) -> String {
        guard case .couldNotValidate(let failures) = result, let first = failures.first else {
            return
                "certificate signed by unknown authority; give the certificates of its issuers with --certificate-roots and --certificate-intermediates"
        }
        let text = first.policyFailureReason.description
        if text == CodeSigningPolicy.refusal { return text }
        let now = Date()
        if leaf.notValidAfter < now || leaf.notValidBefore > now { return "certificate has expired or is not yet valid" }
        if text.lowercased().contains("revoked") { return "certificate has been revoked" }
        return text
    }

    /// Passes questions on to the caller's transport.
    private struct Requester: OCSPRequester {
        let query: OCSPQuery

        func query(request: [UInt8], uri: String) async -> OCSPRequesterQueryResult {
            do { return .response(try await query(request, uri)) } catch { return .terminalError(error) }
        }
    }

    /// Every certificate below the root allows the signing of code, or allows everything.
    private struct CodeSigningPolicy: VerifierPolicy {
        static let refusal = "certificate specifies an incompatible key usage"

        let verifyingCriticalExtensions: [ASN1ObjectIdentifier] = [.X509ExtensionID.extendedKeyUsage, .X509ExtensionID.keyUsage]

        func chainMeetsPolicyRequirements(chain: UnverifiedCertificateChain) -> PolicyEvaluationResult {
            for (index, certificate) in chain.enumerated() {
                // The root is trusted as it is, unless it is the certificate itself.
                if index == chain.count - 1 && index > 0 { break }
                let usage: ExtendedKeyUsage?
                do { usage = try certificate.extensions.extendedKeyUsage } catch { return .failsToMeetPolicy(reason: Self.refusal) }
                if let usage, !usage.contains(.codeSigning), !usage.contains(.any) { return .failsToMeetPolicy(reason: Self.refusal) }
                let keyUsage: KeyUsage?
                do { keyUsage = try certificate.extensions.keyUsage } catch { return .failsToMeetPolicy(reason: Self.refusal) }
                if index == 0, let keyUsage, !keyUsage.digitalSignature { return .failsToMeetPolicy(reason: Self.refusal) }
            }
            return .meetsPolicy
        }
    }
}
