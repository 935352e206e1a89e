/// The keys that signatures are checked with.
public struct KeyMaterial {
    /// For DSSE signatures.
    public var pem: [VerificationKey]
    /// For OpenPGP signatures; nil where they shall not be looked at.
    public var openPGP: OpenPGPSource?

    public init(pem: [VerificationKey] = [], openPGP: OpenPGPSource? = nil) {
        (self.pem, self.openPGP) = (pem, openPGP)
    }
}

/// Keyrings that are read when the first OpenPGP signature is met, and a key server for keys that are missing there.
public final class OpenPGPSource {
    private let keyring: Keyring
    private let onlyGlobal: Bool
    /// Asks a key server for a key by its identifier of 16 digits. Nil: only the keyrings count.
    private let fetch: ((String) throws -> [UInt8])?
    /// Is told why a key server gave nothing.
    private let warn: (String) -> Void
    private var loaded: OpenPGPKeys?

    public init(
        _ keyring: Keyring, onlyGlobal: Bool = false, warn: @escaping (String) -> Void = { _ in }, fetch: ((String) throws -> [UInt8])? = nil
    ) {
        (self.keyring, self.onlyGlobal, self.warn, self.fetch) = (keyring, onlyGlobal, warn, fetch)
    }

    func keys() throws(TrustError) -> OpenPGPKeys {
        if let loaded { return loaded }
        let keys = try OpenPGPKeys()
        try keyring.loadGlobal(into: keys)
        if !onlyGlobal { try keyring.loadLocal(into: keys) }
        loaded = keys
        return keys
    }

    /// Checks a signature; a key that is missing is asked for once.
    func verify(_ message: ClearSignedText, now: Int64) throws(TrustError) -> OpenPGPKeys.Verdict {
        let keys = try keys()
        let verdict = try keys.verify(message.signature, of: message.text, now: now)
        guard verdict.key == nil, verdict.keyID.count == 16, let fetch else { return verdict }
        do {
            try keys.load(try fetch(verdict.keyID), from: .remote, name: "the key server's answer")
        } catch {
            warn("failed to get key material: \(error)")
            return verdict
        }
        return try keys.verify(message.signature, of: message.text, now: now)
    }
}
