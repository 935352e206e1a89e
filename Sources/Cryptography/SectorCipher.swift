import CGcrypt
import Glibc

/// AES in XTS mode over sectors that are numbered (IEEE 1619; dm-crypt's `aes-xts-plain64`). It hides, and protects from
/// nothing: who can write the bytes can change them.
public final class SectorCipher: Sendable {
    private let handles: CipherHandles
    /// Bytes that are encrypted with one number.
    public let sectorSize: Int

    /// - Parameter key: 32 bytes for AES-128, 64 for AES-256.
    public init(key: SecretBytes, sectorSize: Int = 512) throws(CryptographyError) {
        guard key.count == 32 || key.count == 64 else { throw .library("a key of \(key.count) bytes is none of AES in XTS mode") }
        handles = try CipherHandles(key.count == 64 ? GCRY_CIPHER_AES256 : GCRY_CIPHER_AES, GCRY_CIPHER_MODE_XTS, key)
        self.sectorSize = sectorSize
    }

    /// Decrypts whole sectors in place.
    /// - Parameter number: of the first sector, counted in 512 bytes as dm-crypt does whatever the sectors' size.
    public func open(_ sectors: UnsafeMutableRawBufferPointer, number: UInt64) throws(CryptographyError) {
        try each(sectors, number) { handle, base, count in gcry_cipher_decrypt(handle, base, count, nil, 0) }
    }

    /// Encrypts whole sectors in place.
    public func seal(_ sectors: UnsafeMutableRawBufferPointer, number: UInt64) throws(CryptographyError) {
        try each(sectors, number) { handle, base, count in gcry_cipher_encrypt(handle, base, count, nil, 0) }
    }

    private func each(
        _ sectors: UnsafeMutableRawBufferPointer, _ number: UInt64,
        _ body: (gcry_cipher_hd_t, UnsafeMutableRawPointer, Int) -> gcry_error_t
    ) throws(CryptographyError) {
        let handle = try handles.take()
        defer { handles.giveBack(handle) }
        var tweak: (UInt64, UInt64) = (0, 0)
        for offset in stride(from: 0, to: sectors.count, by: sectorSize) {
            guard let base = sectors.baseAddress else { return }
            // A volume with larger sectors counts by 512 still, unless it says otherwise (the flag iv_large_sectors).
            tweak.0 = (number &+ UInt64(offset / 512)).littleEndian
            let failure = withUnsafeBytes(of: &tweak) { gcry_cipher_setiv(handle, $0.baseAddress, $0.count) }
            try Library.check(failure)
            try Library.check(body(handle, base + offset, min(sectorSize, sectors.count - offset)))
        }
    }
}
