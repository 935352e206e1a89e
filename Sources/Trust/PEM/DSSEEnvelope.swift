import FoundationEssentials

/// A signed text in an envelope of JSON ("DSSE: Dead Simple Signing Envelope", version 1).
package struct DSSEEnvelope {
    static let payloadType = "application/vnd.sylabs.sif-metadata+json"

    private struct Document: Decodable {
        struct Signature: Decodable {
            var keyid: String?
            var sig: String
        }
        var payloadType: String
        var payload: String
        var signatures: [Signature]
    }

    let payload: [UInt8]
    let signatures: [[UInt8]]

    /// - Returns: nil where the bytes are no such envelope, or one for something else.
    package init?(parsing bytes: [UInt8]) {
        guard let document = try? JSONDecoder().decode(Document.self, from: Data(bytes)), document.payloadType == Self.payloadType,
            let payload = Data(base64Encoded: document.payload)
        else { return nil }
        self.payload = Array(payload)
        signatures = document.signatures.compactMap { Data(base64Encoded: $0.sig).map(Array.init) }
    }

    /// The text that is signed for a payload.
    private static func signedText(_ payload: [UInt8]) -> [UInt8] {
        Array("DSSEv1 \(payloadType.utf8.count) \(payloadType) \(payload.count) ".utf8) + payload
    }

    /// Whether one of the keys has signed the payload.
    package func acceptedKey(_ keys: [VerificationKey]) -> VerificationKey? {
        let text = Self.signedText(payload)
        return keys.first { key in signatures.contains { key.accepts($0, over: text) } }
    }

    /// The envelope of a text, as the peers write it.
    package static func sign(_ payload: [UInt8], _ key: SigningKey) throws -> [UInt8] {
        let signature = Data(try key.signature(over: signedText(payload))).base64EncodedString()
        let encoded = Data(payload).base64EncodedString()
        return Array(
            "{\"payloadType\":\"\(payloadType)\",\"payload\":\"\(encoded)\",\"signatures\":[{\"keyid\":\"\(key.publicKey.fingerprint)\",\"sig\":\"\(signature)\"}]}"
                .utf8)
    }
}
