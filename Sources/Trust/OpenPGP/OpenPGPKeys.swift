import CRNP
import Cryptography
import Glibc

/// Keys that are loaded, and what can be done with them. Used by one thread.
public final class OpenPGPKeys {
    private let functions: UnsafePointer<crnp_functions>
    private var rnp: crnp_functions { functions.pointee }
    private let ffi: rnp_ffi_t
    private var places: [String: OpenPGPKey.Place] = [:]

    /// - Parameter hasSecrets: also secret keys will be loaded or made.
    /// - Throws: ``TrustError/key(_:)`` where librnp is missing.
    public init(hasSecrets: Bool = true) throws(TrustError) {
        functions = try OpenPGPLibrary.load(hasSecrets: hasSecrets)
        var ffi: rnp_ffi_t?
        guard functions.pointee.rnp_ffi_create(&ffi, "GPG", "GPG") == 0, let ffi else { throw .key("librnp does not start") }
        self.ffi = ffi
    }

    deinit { _ = rnp.rnp_ffi_destroy(ffi) }

    private func check(_ result: rnp_result_t) throws(OpenPGPFailure) {
        guard result == 0 else { throw OpenPGPFailure(code: result) }
    }

    // MARK: Loading

    /// Adds keys to those that are loaded.
    /// - Parameter bytes: transferable keys, binary or armored.
    /// - Returns: fingerprints of the primary keys that were not there before.
    @discardableResult
    public func load(_ bytes: [UInt8], from place: OpenPGPKey.Place, name: String) throws(TrustError) -> [String] {
        guard !bytes.isEmpty else { return [] }
        let before = Set(try fingerprints())
        do throws(OpenPGPFailure) {
            let input = try input(bytes)
            defer { _ = rnp.rnp_input_destroy(input) }
            // Public and secret keys.
            try check(OpenPGPLibrary.quietly { rnp.rnp_load_keys(ffi, "GPG", input, 3) })
        } catch { throw .key("\(name): \(error)") }
        let added = try fingerprints().filter { !before.contains($0) }
        for fingerprint in added { places[fingerprint] = place }
        return added
    }

    private func input(_ bytes: [UInt8]) throws(OpenPGPFailure) -> rnp_input_t {
        var input: rnp_input_t?
        // It keeps a copy.
        try check(rnp.rnp_input_from_memory(&input, bytes, bytes.count, true))
        guard let input else { throw OpenPGPFailure(code: 0) }
        return input
    }

    /// Fingerprints of the primary keys.
    private func fingerprints() throws(TrustError) -> [String] {
        var iterator: rnp_identifier_iterator_t?
        guard rnp.rnp_identifier_iterator_create(ffi, &iterator, "fingerprint") == 0 else { throw .key("librnp cannot list its keys") }
        defer { _ = rnp.rnp_identifier_iterator_destroy(iterator) }
        var found: [String] = []
        var text: UnsafePointer<CChar>?
        while rnp.rnp_identifier_iterator_next(iterator, &text) == 0, let pointer = text {
            let fingerprint = String(cString: pointer)
            var isPrimary = false
            withKey("fingerprint", fingerprint) { key in _ = rnp.rnp_key_is_primary(key, &isPrimary) }
            if isPrimary { found.append(fingerprint) }
        }
        return found
    }

    /// Calls `body` with a key; nothing happens where there is none.
    private func withKey<T, E: Error>(_ kind: String, _ text: String, _ body: (rnp_key_handle_t) throws(E) -> T) throws(E) -> T? {
        var key: rnp_key_handle_t?
        guard rnp.rnp_locate_key(ffi, kind, text, &key) == 0, let key else { return nil }
        defer { _ = rnp.rnp_key_handle_destroy(key) }
        return try body(key)
    }

    /// Calls a function that returns a text which it has allocated.
    private func text(_ call: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> rnp_result_t) -> String {
        var pointer: UnsafeMutablePointer<CChar>?
        guard call(&pointer) == 0, let pointer else { return "" }
        defer { rnp.rnp_buffer_destroy(pointer) }
        return String(cString: pointer)
    }

    // MARK: Looking

    /// The keys in the order in which they were loaded.
    public var keys: [OpenPGPKey] {
        get throws(TrustError) { try fingerprints().compactMap(key) }
    }

    /// The key with a fingerprint.
    public func key(_ fingerprint: String) -> OpenPGPKey? {
        withKey("fingerprint", fingerprint, describe)
    }

    private func describe(_ key: rnp_key_handle_t) -> OpenPGPKey {
        let fingerprint = text { rnp.rnp_key_get_fprint(key, $0) }
        var count = 0
        _ = rnp.rnp_key_get_uid_count(key, &count)
        let primary = text { rnp.rnp_key_get_primary_uid(key, $0) }
        var names = (0..<count).map { index in text { rnp.rnp_key_get_uid_at(key, index, $0) } }.filter { $0 != primary }
        if !primary.isEmpty { names.insert(primary, at: 0) }
        var (created, lifetime, bits): (UInt32, UInt32, UInt32) = (0, 0, 0)
        _ = rnp.rnp_key_get_creation(key, &created)
        _ = rnp.rnp_key_get_expiration(key, &lifetime)
        _ = rnp.rnp_key_get_bits(key, &bits)
        var (isRevoked, hasSecret, isProtected) = (false, false, false)
        _ = rnp.rnp_key_is_revoked(key, &isRevoked)
        _ = rnp.rnp_key_have_secret(key, &hasSecret)
        if hasSecret { _ = rnp.rnp_key_is_protected(key, &isProtected) }
        return OpenPGPKey(
            fingerprint: fingerprint, userIDs: names, created: Int64(created),
            expires: lifetime == 0 ? nil : Int64(created) + Int64(lifetime),
            bits: Int(bits), algorithm: text { rnp.rnp_key_get_alg(key, $0) }, isRevoked: isRevoked, hasSecret: hasSecret,
            isProtected: isProtected, place: places[fingerprint] ?? .local)
    }

    // MARK: Signatures

    /// A signature that was looked at.
    package struct Verdict {
        /// The primary key behind it; nil where it is not here.
        package var key: OpenPGPKey?
        /// Of the key that made it, as far as the signature names it.
        package var keyID: String
        /// Why it proves nothing; nil for a good one.
        package var failure: String?
    }

    /// Hashes that a signature may use; with the others somebody else's text could be put in its place.
    private static let hashes: Set<String> = ["SHA224", "SHA256", "SHA384", "SHA512"]

    /// Checks the signature of a text.
    /// - Parameters:
    ///   - signature: one signature packet.
    ///   - now: Unix seconds.
    package func verify(_ signature: [UInt8], of text: [UInt8], now: Int64) throws(TrustError) -> Verdict {
        do throws(OpenPGPFailure) {
            let message = try input(text)
            defer { _ = rnp.rnp_input_destroy(message) }
            let packets = try input(signature)
            defer { _ = rnp.rnp_input_destroy(packets) }
            var operation: rnp_op_verify_t?
            try check(rnp.rnp_op_verify_detached_create(&operation, ffi, message, packets))
            defer { _ = rnp.rnp_op_verify_destroy(operation) }
            return try onlyVerdict(operation, now: now)
        } catch { return Verdict(keyID: "", failure: "openpgp: invalid signature; \(error)") }
    }

    /// Opens a message that holds what is signed.
    /// - Parameters:
    ///   - limit: of the content, bytes.
    ///   - now: Unix seconds.
    /// - Returns: the content, and the only signature of it.
    package func open(signedMessage: [UInt8], limit: Int, now: Int64) throws(TrustError) -> (content: [UInt8], verdict: Verdict) {
        do throws(OpenPGPFailure) {
            let message = try input(signedMessage)
            defer { _ = rnp.rnp_input_destroy(message) }
            var verdict = Verdict(keyID: "", failure: "openpgp: it is no signed message")
            let content = try output(limit: limit) { target throws(OpenPGPFailure) in
                var operation: rnp_op_verify_t?
                try check(rnp.rnp_op_verify_create(&operation, ffi, message, target))
                defer { _ = rnp.rnp_op_verify_destroy(operation) }
                verdict = try onlyVerdict(operation, now: now)
            }
            return (content, verdict)
        } catch { return ([], Verdict(keyID: "", failure: "openpgp: invalid signature; \(error)")) }
    }

    /// Runs a verification of what has one signature.
    private func onlyVerdict(_ operation: rnp_op_verify_t?, now: Int64) throws(OpenPGPFailure) -> Verdict {
        // The result is that of all signatures together; each is looked at below.
        _ = OpenPGPLibrary.quietly { rnp.rnp_op_verify_execute(operation) }
        var count = 0
        try check(rnp.rnp_op_verify_get_signature_count(operation, &count))
        guard count == 1 else { return Verdict(keyID: "", failure: "openpgp: \(count) signatures where one was expected") }
        var found: rnp_op_verify_signature_t?
        try check(rnp.rnp_op_verify_get_signature_at(operation, 0, &found))
        return verdict(found, now: now)
    }

    private func verdict(_ signature: rnp_op_verify_signature_t?, now: Int64) -> Verdict {
        let status = rnp.rnp_op_verify_signature_get_status(signature)
        var handle: rnp_signature_handle_t?
        guard rnp.rnp_op_verify_signature_get_handle(signature, &handle) == 0 else {
            return Verdict(keyID: "", failure: "openpgp: invalid signature")
        }
        defer { _ = rnp.rnp_signature_handle_destroy(handle) }
        let keyID = text { rnp.rnp_signature_get_keyid(handle, $0) }
        let fingerprint = withKey("keyid", keyID) { key in
            let primary = text { rnp.rnp_key_get_primary_fprint(key, $0) }
            return (own: text { rnp.rnp_key_get_fprint(key, $0) }, primary: primary)
        }
        guard let fingerprint, let signer = withKey("fingerprint", fingerprint.own, describe),
            let primary = fingerprint.primary.isEmpty ? signer : withKey("fingerprint", fingerprint.primary, describe)
        else { return Verdict(keyID: keyID, failure: "openpgp: signature made by unknown entity") }
        let hash = text { rnp.rnp_op_verify_signature_get_hash(signature, $0) }
        let kind = text { rnp.rnp_signature_get_type(handle, $0) }
        let isExpired = [signer, primary].contains { $0.expires.map { $0 <= now } ?? false }
        let failure: String? =
            if signer.isRevoked || primary.isRevoked {
                "openpgp: key revoked; who has made it says that it must not be trusted any more"
            } else if !Self.hashes.contains(hash) {
                "openpgp: hash algorithm \(hash) is too weak"
            } else if status == OpenPGPFailure.signatureExpired {
                "openpgp: signature expired"
            } else if isExpired {
                "openpgp: key expired; `singularity key pull \(primary.fingerprint)` gets it anew where its owner has prolonged it"
            } else if status != 0 {
                "openpgp: invalid signature"
            } else if kind != "text" && kind != "binary" {
                "openpgp: a signature of the type \(kind) signs no text"
            } else {
                nil
            }
        return Verdict(key: primary, keyID: keyID, failure: failure)
    }

    /// Signs a text: a clear-signed message, as the peers write it.
    /// - Parameter passphrase: nil for a key without protection.
    package func clearSign(_ text: [UInt8], with key: OpenPGPKey, passphrase: SecretBytes?) throws(TrustError) -> [UInt8] {
        do throws(OpenPGPFailure) {
            return try withKey("fingerprint", key.fingerprint) { handle throws(OpenPGPFailure) in
                if key.isProtected { try unlock(handle, passphrase) }
                let message = try input(text)
                defer { _ = rnp.rnp_input_destroy(message) }
                return try output { output throws(OpenPGPFailure) in
                    var operation: rnp_op_sign_t?
                    try check(rnp.rnp_op_sign_cleartext_create(&operation, ffi, message, output))
                    defer { _ = rnp.rnp_op_sign_destroy(operation) }
                    try check(rnp.rnp_op_sign_set_hash(operation, "SHA256"))
                    try check(rnp.rnp_op_sign_add_signature(operation, handle, nil))
                    try check(rnp.rnp_op_sign_execute(operation))
                }.filter { $0 != UInt8(ascii: "\r") }.withoutLineEnds
            } ?? []
        } catch { throw .key("key \(key.fingerprint): \(error)") }
    }

    private func unlock(_ key: rnp_key_handle_t, _ passphrase: SecretBytes?) throws(OpenPGPFailure) {
        guard let passphrase else { throw OpenPGPFailure(code: OpenPGPFailure.wrongPassphrase) }
        let result = Self.withCString(passphrase) { phrase in OpenPGPLibrary.quietly { rnp.rnp_key_unlock(key, phrase) } }
        try check(result)
    }

    /// Lends a secret as a C string, and wipes it.
    private static func withCString<T>(_ secret: SecretBytes, _ body: (UnsafePointer<CChar>) -> T) -> T {
        let copy = SecretBytes(count: secret.count + 1) { target in
            secret.withBytes { UnsafeMutableRawBufferPointer(rebasing: target[..<secret.count]).copyMemory(from: $0) }
        }
        return copy.withBytes { bytes in
            let pointer = bytes.bindMemory(to: CChar.self)
            // A copy of one byte at least: the one that ends it.
            return withUnsafePointer(to: CChar(0)) { body(pointer.baseAddress ?? $0) }
        }
    }

    /// What a call writes.
    /// - Parameter limit: bytes at the most; 0 for any number.
    private func output(limit: Int = 0, _ write: (rnp_output_t) throws(OpenPGPFailure) -> Void) throws(OpenPGPFailure) -> [UInt8] {
        var output: rnp_output_t?
        try check(rnp.rnp_output_to_memory(&output, limit))
        guard let output else { throw OpenPGPFailure(code: 0) }
        defer { _ = rnp.rnp_output_destroy(output) }
        try write(output)
        var bytes: UnsafeMutablePointer<UInt8>?
        var count = 0
        try check(rnp.rnp_output_memory_get_buf(output, &bytes, &count, false))
        return Array(UnsafeBufferPointer(start: bytes, count: count))
    }

    // MARK: Making and passing on

    /// The packets of a key and its subkeys.
    public func export(_ fingerprint: String, secret: Bool, armored: Bool) throws(TrustError) -> [UInt8] {
        do throws(OpenPGPFailure) {
            let bytes = try withKey("fingerprint", fingerprint) { key throws(OpenPGPFailure) in
                try output { output throws(OpenPGPFailure) in
                    try check(rnp.rnp_key_export(key, output, (secret ? 4 : 2) | 8 | (armored ? 1 : 0)))
                }
            }
            guard let bytes else { throw OpenPGPFailure(code: OpenPGPFailure.keyNotFound) }
            return armored ? bytes.filter { $0 != UInt8(ascii: "\r") } : bytes
        } catch { throw .key("key \(fingerprint): \(error)") }
    }

    /// Whether a pass phrase is that of a secret key.
    public func isPassphrase(_ passphrase: SecretBytes, of fingerprint: String) -> Bool {
        withKey("fingerprint", fingerprint) { key in
            Self.withCString(passphrase) { phrase in OpenPGPLibrary.quietly { rnp.rnp_key_unlock(key, phrase) } } == 0
        } ?? false
    }

    /// Makes a pair of RSA keys: one that certifies and signs, and a subkey to encrypt with.
    /// - Parameter passphrase: nil leaves them unprotected.
    /// - Returns: the fingerprint.
    public func generate(userID: String, bits: Int, passphrase: SecretBytes?) throws(TrustError) -> String {
        do throws(OpenPGPFailure) {
            let primary = try generate(passphrase) { operation throws(OpenPGPFailure) in
                try check(rnp.rnp_op_generate_create(&operation, ffi, "RSA"))
                try check(rnp.rnp_op_generate_set_bits(operation, UInt32(bits)))
                // For ever, as the peers' keys.
                try check(rnp.rnp_op_generate_set_expiration(operation, 0))
                try check(rnp.rnp_op_generate_set_hash(operation, "SHA384"))
                try check(rnp.rnp_op_generate_set_userid(operation, userID))
                for usage in ["certify", "sign"] { try check(rnp.rnp_op_generate_add_usage(operation, usage)) }
                for hash in ["SHA384", "SHA256"] { try check(rnp.rnp_op_generate_add_pref_hash(operation, hash)) }
                try check(rnp.rnp_op_generate_add_pref_cipher(operation, "AES128"))
            }
            defer { _ = rnp.rnp_key_handle_destroy(primary) }
            if let passphrase { try unlock(primary, passphrase) }
            let subkey = try generate(passphrase) { operation throws(OpenPGPFailure) in
                try check(rnp.rnp_op_generate_subkey_create(&operation, ffi, primary, "RSA"))
                try check(rnp.rnp_op_generate_set_bits(operation, UInt32(bits)))
                // For ever, as the peers' keys.
                try check(rnp.rnp_op_generate_set_expiration(operation, 0))
                try check(rnp.rnp_op_generate_set_hash(operation, "SHA384"))
                try check(rnp.rnp_op_generate_add_usage(operation, "encrypt"))
            }
            _ = rnp.rnp_key_handle_destroy(subkey)
            return text { rnp.rnp_key_get_fprint(primary, $0) }
        } catch { throw .key("no key could be made: \(error)") }
    }

    /// Octets that are hashed to make a key of a pass phrase, as the peers choose it.
    private static let protectionIterations: UInt32 = 65536

    private func generate(
        _ passphrase: SecretBytes?, _ prepare: (inout rnp_op_generate_t?) throws(OpenPGPFailure) -> Void
    ) throws(OpenPGPFailure) -> rnp_key_handle_t {
        var operation: rnp_op_generate_t?
        defer { _ = rnp.rnp_op_generate_destroy(operation) }
        try prepare(&operation)
        if let passphrase {
            let result = Self.withCString(passphrase) { rnp.rnp_op_generate_set_protection_password(operation, $0) }
            try check(result)
            try check(rnp.rnp_op_generate_set_protection_cipher(operation, "AES256"))
            try check(rnp.rnp_op_generate_set_protection_hash(operation, "SHA256"))
            try check(rnp.rnp_op_generate_set_protection_iterations(operation, Self.protectionIterations))
        }
        try check(rnp.rnp_op_generate_execute(operation))
        var key: rnp_key_handle_t?
        try check(rnp.rnp_op_generate_get_key(operation, &key))
        guard let key else { throw OpenPGPFailure(code: 0) }
        return key
    }
}

extension [UInt8] {
    /// Without line feeds at the end.
    fileprivate var withoutLineEnds: [UInt8] { Array(self[..<(1 + (lastIndex { $0 != UInt8(ascii: "\n") } ?? -1))]) }
}
