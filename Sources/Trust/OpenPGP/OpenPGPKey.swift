import Linux

/// What is known of an OpenPGP key: of the primary key and its user identities.
public struct OpenPGPKey: Sendable, Equatable {
    /// Where a key came from.
    public enum Place: Sendable {
        /// The administrator's keyring.
        case global
        /// The user's own.
        case local
        /// A key server, just now.
        case remote
    }

    /// 40 upper-case hexadecimal digits.
    public var fingerprint: String
    /// `Name (Comment) <address>`, the primary one first.
    public var userIDs: [String]
    /// Unix seconds.
    public var created: Int64
    /// Unix seconds; nil for never.
    public var expires: Int64?
    public var bits: Int
    /// Such as `RSA`.
    public var algorithm: String
    public var isRevoked: Bool
    public var hasSecret: Bool
    /// The secret half is encrypted with a pass phrase.
    public var isProtected: Bool
    public var place: Place

    public var name: String { userIDs.first ?? "" }
    /// The last 16 digits of the fingerprint.
    public var keyID: String { String(fingerprint.suffix(16)) }

    /// Whether a text names the key: its fingerprint or a key identifier, with or without `0x` and spaces.
    public func isNamed(_ text: String) -> Bool {
        let digits = Self.digits(text)
        return digits.count >= 16 && fingerprint.hasSuffix(digits)
    }

    /// The digits of a text that is a fingerprint (40), or a key identifier where such ones are allowed (16); nil for others.
    public static func identifier(_ text: String, lengths: Set<Int> = [16, 40]) -> String? {
        let digits = digits(text)
        return lengths.contains(digits.count) && Hexadecimal.bytes(digits) != nil ? digits : nil
    }

    /// Upper-case digits of a fingerprint as people write it.
    public static func digits(_ text: String) -> String {
        let plain = text.filter { !$0.isWhitespace && $0 != ":" }.uppercased()
        return plain.hasPrefix("0X") ? String(plain.dropFirst(2)) : plain
    }
}
