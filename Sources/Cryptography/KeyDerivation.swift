import CGcrypt
import Crypto
import FoundationEssentials

/// Keys from pass phrases and from other keys.
public enum KeyDerivation {
    /// scrypt (RFC 7914) with blocks of 8, the only size that is in use.
    /// - Parameters:
    ///   - cost: N, a power of two.
    ///   - parallelism: p.
    public static func scrypt(
        _ passphrase: SecretBytes, salt: [UInt8], cost: Int, parallelism: Int, count: Int
    ) throws(CryptographyError) -> SecretBytes {
        try derive(passphrase, salt, GCRY_KDF_SCRYPT, CInt(clamping: cost), UInt(parallelism), count)
    }

    /// PBKDF2 (RFC 8018, section 5.2).
    public static func pbkdf2(
        _ passphrase: SecretBytes, salt: [UInt8], hash: MessageDigest.Algorithm, iterations: Int, count: Int
    ) throws(CryptographyError) -> SecretBytes {
        try derive(passphrase, salt, GCRY_KDF_PBKDF2, hash.number, UInt(iterations), count)
    }

    private static func derive(
        _ passphrase: SecretBytes, _ salt: [UInt8], _ kind: gcry_kdf_algos, _ detail: CInt, _ iterations: UInt, _ count: Int
    ) throws(CryptographyError) -> SecretBytes {
        try Library.start()
        return try SecretBytes(count: count) { target throws(CryptographyError) in
            let failure = passphrase.withBytes { secret in
                gcry_kdf_derive(
                    secret.baseAddress, secret.count, CInt(bitPattern: kind.rawValue), detail, salt, salt.count, iterations, count,
                    target.baseAddress)
            }
            try Library.check(failure)
        }
    }

    /// Argon2 (RFC 9106).
    /// - Parameters:
    ///   - kind: `argon2i` or `argon2id`.
    ///   - memory: KiB.
    public static func argon2(
        _ passphrase: SecretBytes, kind: String, salt: [UInt8], time: Int, memory: Int, parallelism: Int, count: Int
    ) throws(CryptographyError) -> SecretBytes {
        try Library.start()
        let variant: gcry_kdf_subalgo_argon2 = kind == "argon2i" ? GCRY_KDF_ARGON2I : GCRY_KDF_ARGON2ID
        return try SecretBytes(count: count) { target throws(CryptographyError) in
            let parameters = [UInt(count), UInt(time), UInt(memory), UInt(parallelism)]
            let failure = passphrase.withBytes { secret -> gcry_error_t in
                var handle: gcry_kdf_hd_t?
                let opened = gcry_kdf_open(
                    &handle, CInt(bitPattern: GCRY_KDF_ARGON2.rawValue), CInt(bitPattern: variant.rawValue), parameters,
                    UInt32(parameters.count), secret.baseAddress, secret.count, salt, salt.count, nil, 0, nil, 0)
                guard opened == 0 else { return opened }
                defer { gcry_kdf_close(handle) }
                let computed = gcry_kdf_compute(handle, nil)
                return computed == 0 ? gcry_kdf_final(handle, target.count, target.baseAddress) : computed
            }
            try Library.check(failure)
        }
    }

    /// HKDF with SHA-256 and without salt (RFC 5869).
    public static func hkdf(_ key: SecretBytes, info: String, count: Int) -> SecretBytes {
        let derived = key.withBytes {
            HKDF<SHA256>.deriveKey(inputKeyMaterial: SymmetricKey(data: $0), info: Array(info.utf8), outputByteCount: count)
        }
        return SecretBytes(count: count) { target in derived.withUnsafeBytes { target.copyMemory(from: $0) } }
    }
}
