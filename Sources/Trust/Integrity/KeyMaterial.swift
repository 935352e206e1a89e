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
    /// Only the key that an image names as its signer's is read.
    private let isSelective: Bool
    /// Asks a key server for a key by its identifier of 16 digits. Nil: only the keyrings count.
    private let fetch: ((String) throws -> [UInt8])?
    /// Is told why a key server gave nothing.
    private let warn: (String) -> Void
    private var loaded: OpenPGPKeys?

    public init(
        _ keyring: Keyring, isSelective: Bool = false, warn: @escaping (String) -> Void = { _ in },
        fetch: ((String) throws -> [UInt8])? = nil
    ) {
        (self.keyring, self.isSelective, self.warn, self.fetch) = (keyring, isSelective, warn, fetch)
    }

    private func keys(_ entries: [Keyring.Entry]) throws(TrustError) -> OpenPGPKeys {
        let keys: OpenPGPKeys
        if let loaded { keys = loaded } else { keys = try OpenPGPKeys(hasSecrets: false) }
        if isSelective {
            for entry in entries { try entry.load(hasSubkeys: false, into: keys) }
        } else if loaded == nil {
            try keyring.loadGlobal(into: keys)
            try keyring.loadLocal(into: keys)
        }
        loaded = keys
        return keys
    }

    /// Checks a signature; a key that is missing is asked for once.
    /// - Parameter signer: fingerprint of the key that the image names, upper-case digits.
    func verify(_ message: ClearSignedText, signer: String?, now: Int64) throws(TrustError) -> OpenPGPKeys.Verdict {
        let entries = try isSelective ? signer.map { (signer) throws(TrustError) in try keyring.entries(signer) } ?? [] : []
        // Several entries may say different things of a key, such as that it is revoked.
        if entries.count == 1, let key = PlainKey(entries[0].key, from: entries[0].place, now: now),
            let verdict = key.accept(message.signature, of: message.text, now: now)
        {
            return verdict
        }
        let keys = try keys(entries)
        var verdict = try keys.verify(message.signature, of: message.text, now: now)
        if verdict.key == nil, isSelective {
            // Perhaps a subkey of it has signed.
            for entry in entries { try entry.load(hasSubkeys: true, into: keys) }
            verdict = try keys.verify(message.signature, of: message.text, now: now)
        }
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
