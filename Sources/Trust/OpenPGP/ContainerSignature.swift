import FoundationEssentials
import Glibc

/// A signature of an image in a registry, as podman and skopeo make them (containers-signature(5)): an OpenPGP message around
/// JSON that says which manifest has which name.
public struct ContainerSignature: Equatable, Sendable {
    /// Of the manifest.
    public let digest: String
    /// The name that it was signed under.
    public let reference: String
    /// Of the primary key, upper-case digits.
    public let signer: String

    /// Bytes of a signature at the most, and of what is in it.
    public static let largest = 1 << 20

    /// Checks signatures by certain keys.
    public struct Reader {
        private let keys: OpenPGPKeys

        /// - Parameter fingerprints: of the keys that count, upper-case digits. One that no keyring has signs nothing.
        public init(_ keyring: Keyring, _ fingerprints: [String]) throws(TrustError) {
            keys = try OpenPGPKeys(hasSecrets: false)
            for fingerprint in fingerprints {
                for entry in try keyring.entries(fingerprint) { try entry.load(hasSubkeys: true, into: keys) }
            }
        }

        /// - Returns: the signature, or why it proves nothing.
        public func read(_ message: [UInt8]) throws(TrustError) -> Result<ContainerSignature, TrustError> {
            let (content, verdict) = try keys.open(signedMessage: message, limit: ContainerSignature.largest, now: Int64(time(nil)))
            if let failure = verdict.failure { return .failure(.key(failure)) }
            guard let key = verdict.key else { return .failure(.key("openpgp: signature made by unknown entity")) }
            // Strict: what is not understood must not be taken for something else.
            guard let document = try? JSONDecoder().decode(Document.self, from: Data(content)),
                document.critical.type == "atomic container signature"
            else { return .failure(.key("the text of a signature is no \"atomic container signature\"")) }
            return .success(
                ContainerSignature(
                    digest: document.critical.image.digest, reference: document.critical.identity.reference, signer: key.fingerprint))
        }
    }

    private struct Document: Decodable {
        struct Critical: Decodable {
            struct Image: Decodable {
                var digest: String
                enum CodingKeys: String, CodingKey { case digest = "docker-manifest-digest" }
            }
            struct Identity: Decodable {
                var reference: String
                enum CodingKeys: String, CodingKey { case reference = "docker-reference" }
            }
            var type: String
            var image: Image
            var identity: Identity
        }
        var critical: Critical
    }
}
