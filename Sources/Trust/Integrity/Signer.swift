/// Who has signed.
public struct Signer: Sendable, Equatable {
    /// With an OpenPGP key.
    public var openPGP: OpenPGPKey?
    /// With a PEM key: its OpenSSH fingerprint.
    public var pemFingerprint: String?
}
