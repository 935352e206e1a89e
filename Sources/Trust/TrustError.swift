/// Why an image, a signature or a key is not trusted, or could not be made.
///
/// Texts up to the first semicolon are those of the peers, which programs look for; what to do stands behind it.
public enum TrustError: Error, CustomStringConvertible {
    case noGroups
    case groupNotFound(UInt32)
    case objectNotFound(UInt32)
    case noGroupOfObject
    /// An object that is no signature belongs to no group.
    case foreignObject(UInt32)
    case notSigned(group: UInt32)
    case objectSignatureMissing(UInt32)
    /// The bytes of a signature object are none of the known forms.
    case unknownFormat(signature: UInt32)
    case badSignature(signature: UInt32, why: String)
    /// None of the keys at hand has made it.
    case unknownSigner(signature: UInt32, why: String)
    /// Keys of a kind that the caller does not have.
    case noKeyMaterial(kind: String)
    case wrongSigner
    case objectNotSigned(UInt32)
    case signedObjectMissing(UInt32)
    case headerChanged
    case descriptorChanged(UInt32)
    case dataChanged(UInt32)
    /// The image is damaged, or cannot be read.
    case unreadable(String)
    case key(String)
    case certificate(String)
    case policy(String)

    public var description: String {
        switch self {
        case .noGroups: "no groups found; the image has no object that could be signed"
        case .groupNotFound: "group not found"
        case .objectNotFound: "object not found"
        case .noGroupOfObject: "invalid group ID; only objects of a group can be signed"
        case .foreignObject: "non-signature object not associated with object group"
        case .notSigned(let group): "signature not found for object group \(group)"
        case .objectSignatureMissing(let id): "signature not found for object \(id)"
        case .unknownFormat(let id): "signature object \(id) not valid: signature format not recognized"
        case .badSignature(let id, let why), .unknownSigner(let id, let why): "signature object \(id) not valid: \(why)"
        case .noKeyMaterial(let kind): "key material not provided for \(kind) signature"
        case .wrongSigner: "fingerprint in descriptor does not correspond to signing entity"
        case .objectNotSigned(let id): "object \(id): object not signed"
        case .signedObjectMissing(let id): "object \(id): signed object not found"
        case .headerChanged: "header integrity compromised"
        case .descriptorChanged(let id): "data object descriptor integrity compromised: \(id)"
        case .dataChanged(let id): "data object integrity compromised: \(id)"
        case .unreadable(let what), .key(let what), .policy(let what): what
        case .certificate(let what): "x509: \(what)"
        }
    }

    /// Whether it is about the image and its signatures, which the peers mark with a prefix.
    public var isIntegrity: Bool {
        switch self {
        case .key, .certificate, .policy, .unreadable: false
        default: true
        }
    }
}
