import Linux
import SIF

/// A signature object, taken apart but not checked ("SIF integrity, signatures").
struct SignatureObject {
    enum Form {
        case envelope(DSSEEnvelope)
        case clearSigned(ClearSignedText)
        case unknown
    }

    let descriptor: Descriptor
    let form: Form

    /// Bytes of a signature at the most.
    private static let largest: Int64 = 16 << 20

    init(_ descriptor: Descriptor, _ covered: CoveredBytes) throws(TrustError) {
        self.descriptor = descriptor
        let bytes = try covered.bytes(of: descriptor, limit: Self.largest)
        if let envelope = DSSEEnvelope(parsing: bytes) {
            form = .envelope(envelope)
        } else if let message = ClearSignedText(parsing: bytes) {
            form = .clearSigned(message)
        } else {
            form = .unknown
        }
    }

    private static let legacyStart = Array("SIFHASH:\n".utf8)

    /// Of Singularity before 3.6: it covers the data alone.
    var isLegacy: Bool {
        if case .clearSigned(let message) = form { return message.text.starts(with: Self.legacyStart) }
        return false
    }

    /// The digest of a legacy signature; nil where there is none.
    var legacyDigest: [UInt8]? {
        guard case .clearSigned(let message) = form, message.text.starts(with: Self.legacyStart) else { return nil }
        let digits = message.text.dropFirst(Self.legacyStart.count).prefix { $0 != UInt8(ascii: "\n") }
        return Hexadecimal.bytes(String(decoding: digits, as: UTF8.self))
    }

    /// Checks the signature, not what it says.
    /// - Returns: the text that is signed, and who has signed it.
    func check(_ material: KeyMaterial, now: Int64) throws(TrustError) -> (text: [UInt8], signer: Signer) {
        switch form {
        case .unknown: throw .unknownFormat(signature: descriptor.id)
        case .envelope(let envelope):
            guard !material.pem.isEmpty else { throw .noKeyMaterial(kind: "DSSE envelope") }
            guard let key = envelope.acceptedKey(material.pem) else {
                throw .unknownSigner(
                    signature: descriptor.id,
                    why: "dsse: verify envelope failed: accepted signatures do not match threshold, Found: 0, Expected 1")
            }
            return (envelope.payload, Signer(pemFingerprint: key.fingerprint))
        case .clearSigned(let message):
            guard let source = material.openPGP else { throw .noKeyMaterial(kind: "PGP clear-sign") }
            var named: String?
            if case .signature(_, let fingerprint?) = descriptor.detail { named = Hexadecimal.text(fingerprint, upperCase: true) }
            let verdict = try source.verify(message, signer: named, now: now)
            if let failure = verdict.failure {
                guard verdict.key == nil, verdict.keyID.count == 16 else { throw .badSignature(signature: descriptor.id, why: failure) }
                throw .unknownSigner(signature: descriptor.id, why: "\(failure); `singularity key pull \(verdict.keyID)` gets the key")
            }
            guard let key = verdict.key else {
                throw .badSignature(signature: descriptor.id, why: "openpgp: signature made by unknown entity")
            }
            guard named == key.fingerprint else { throw .wrongSigner }
            return (message.text, Signer(openPGP: key))
        }
    }
}
