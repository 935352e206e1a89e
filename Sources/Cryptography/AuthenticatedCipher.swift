import CGcrypt
import Glibc
import Linux

/// AES-256 in Galois/Counter Mode with nonces and tags of 16 bytes (NIST SP 800-38D). Any number of threads may use one.
public final class AuthenticatedCipher: Sendable {
    /// Bytes of a nonce, and of a tag.
    public static let nonceSize = 16
    public static let tagSize = 16

    private let handles: CipherHandles

    public init(key: SecretBytes) throws(CryptographyError) {
        handles = try CipherHandles(GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_GCM, key)
    }

    /// Decrypts, and checks what was encrypted and the data beside it.
    /// - Parameter target: as long as `cipherText`, which it may also be; holds zeros after an error.
    public func open(
        _ cipherText: UnsafeRawBufferPointer, nonce: UnsafeRawBufferPointer, tag: UnsafeRawBufferPointer,
        authenticating data: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(CryptographyError) {
        let handle = try handles.take()
        defer { handles.giveBack(handle) }
        try Self.begin(handle, nonce, data)
        // The library wants no source where it is the target.
        let isInPlace = cipherText.baseAddress == UnsafeRawPointer(target.baseAddress)
        try Library.check(
            gcry_cipher_decrypt(
                handle, target.baseAddress, target.count, isInPlace ? nil : cipherText.baseAddress, isInPlace ? 0 : cipherText.count))
        guard gcry_cipher_checktag(handle, tag.baseAddress, tag.count) == 0 else {
            SecretBytes.wipe(target)
            throw .notAuthentic
        }
    }

    /// Encrypts.
    /// - Parameters:
    ///   - target: as long as `plainText`.
    ///   - tag: 16 bytes that are written.
    public func seal(
        _ plainText: UnsafeRawBufferPointer, nonce: UnsafeRawBufferPointer, authenticating data: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer, tag: UnsafeMutableRawBufferPointer
    ) throws(CryptographyError) {
        let handle = try handles.take()
        defer { handles.giveBack(handle) }
        try Self.begin(handle, nonce, data)
        try Library.check(gcry_cipher_encrypt(handle, target.baseAddress, target.count, plainText.baseAddress, plainText.count))
        try Library.check(gcry_cipher_gettag(handle, tag.baseAddress, tag.count))
    }

    /// Starts a text, which follows in one piece.
    private static func begin(
        _ handle: gcry_cipher_hd_t, _ nonce: UnsafeRawBufferPointer, _ data: UnsafeRawBufferPointer
    ) throws(CryptographyError) {
        try Library.check(gcry_cipher_setiv(handle, nonce.baseAddress, nonce.count))
        try Library.check(gcry_cipher_authenticate(handle, data.baseAddress, data.count))
        try Library.check(cgcrypt_final(handle))
    }
}

/// Ciphers of one key that are ready to be used: one for each thread that is at work.
///
/// `@unchecked Sendable`: the list is only touched with the monitor held, and who has taken a cipher is its only user.
final class CipherHandles: @unchecked Sendable {
    private var free: [gcry_cipher_hd_t] = []
    private let monitor = Monitor()
    private let algorithm: CInt
    private let mode: CInt
    private let key: SecretBytes

    init(_ algorithm: gcry_cipher_algos, _ mode: gcry_cipher_modes, _ key: SecretBytes) throws(CryptographyError) {
        try Library.start()
        self.algorithm = CInt(bitPattern: algorithm.rawValue)
        self.mode = CInt(bitPattern: mode.rawValue)
        self.key = key
        giveBack(try make())
    }

    deinit { for handle in free { gcry_cipher_close(handle) } }

    private func make() throws(CryptographyError) -> gcry_cipher_hd_t {
        var handle: gcry_cipher_hd_t?
        try Library.check(gcry_cipher_open(&handle, algorithm, mode, 0))
        guard let handle else { throw .library("no cipher") }
        let failure = key.withBytes { gcry_cipher_setkey(handle, $0.baseAddress, $0.count) }
        guard failure == 0 else {
            gcry_cipher_close(handle)
            throw .library(String(cString: gcry_strerror(failure)))
        }
        return handle
    }

    func take() throws(CryptographyError) -> gcry_cipher_hd_t {
        if let handle = monitor.locked({ free.popLast() }) { return handle }
        return try make()
    }

    /// A cipher can start anew with the next nonce: it keeps its key.
    func giveBack(_ handle: gcry_cipher_hd_t) {
        _ = cgcrypt_reset(handle)
        monitor.locked { free.append(handle) }
    }
}
