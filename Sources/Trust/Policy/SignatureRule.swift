/// What must be true of the signatures of an image.
public enum SignatureRule: Sendable {
    /// A key of the keyrings has signed it.
    case anyKnown
    case anyOf([TrustedSigner])
    case allOf([TrustedSigner])
    /// It is signed by somebody, but not by these.
    case noneOf([TrustedSigner])
    /// Nothing is asked for.
    case unsignedAllowed
    case refused

    /// Keys that have to be tried on DSSE signatures.
    var pem: [VerificationKey] {
        switch self {
        case .anyOf(let signers), .allOf(let signers), .noneOf(let signers):
            signers.compactMap { if case .pem(let key) = $0 { key } else { nil } }
        case .anyKnown, .unsignedAllowed, .refused: []
        }
    }

    /// Whether OpenPGP keys matter.
    var usesOpenPGP: Bool {
        switch self {
        case .anyKnown, .noneOf: true
        case .anyOf(let signers), .allOf(let signers):
            signers.contains { if case .openPGP = $0 { true } else { false } }
        case .unsignedAllowed, .refused: false
        }
    }

    /// Why signers are not enough; nil where they are.
    func objection(to signers: [Signer]) -> String? {
        switch self {
        case .anyKnown: return signers.isEmpty ? "no known key has signed it" : nil
        case .anyOf(let wanted):
            if wanted.contains(where: { one in signers.contains { one.isMet(by: $0) } }) { return nil }
            return "image not signed by required entities: one of \(wanted.map(\.name).joined(separator: ", "))"
        case .allOf(let wanted):
            guard let missing = wanted.first(where: { one in !signers.contains { one.isMet(by: $0) } }) else { return nil }
            return "image not signed by required entities: \(missing.name) has not signed it"
        case .noneOf(let unwanted):
            if signers.isEmpty { return "no known key has signed it" }
            guard let found = unwanted.first(where: { one in signers.contains { one.isMet(by: $0) } }) else { return nil }
            return "it is signed by \(found.name), which is forbidden"
        case .unsignedAllowed: return nil
        case .refused: return "the policy refuses images of this place"
        }
    }
}
