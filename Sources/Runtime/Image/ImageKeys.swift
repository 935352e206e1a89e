import Encryption

/// Where the keys of encrypted images come from. They are asked for when the first such image is met.
public struct ImageKeys: Sendable {
    public let load: @Sendable () throws -> EncryptionKeys

    public init(_ load: @escaping @Sendable () throws -> EncryptionKeys) { self.load = load }

    /// There are none.
    public static let none = ImageKeys { EncryptionKeys() }
}
