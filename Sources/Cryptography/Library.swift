import CGcrypt

/// Starts libgcrypt, once.
enum Library {
    /// Its own start-up; secret memory is ours (``SecretBytes``), and its random numbers are not used.
    private static let isReady: Bool = {
        cgcrypt_use_own_memory()
        guard gcry_check_version("1.10.0") != nil else { return false }
        return cgcrypt_control(GCRYCTL_DISABLE_SECMEM) && cgcrypt_control(GCRYCTL_INITIALIZATION_FINISHED)
    }()

    /// - Throws: ``CryptographyError/library(_:)`` for a library that is too old.
    static func start() throws(CryptographyError) {
        guard isReady else { throw .library("libgcrypt is older than 1.10") }
    }

    static func check(_ error: gcry_error_t) throws(CryptographyError) {
        guard error == 0 else { throw .library(String(cString: gcry_strerror(error))) }
    }
}

/// What went wrong with a cipher, a hash or a key.
public enum CryptographyError: Error, CustomStringConvertible, Equatable {
    /// The bytes are not what was encrypted: changed, or with another key.
    case notAuthentic
    case library(String)

    public var description: String {
        switch self {
        case .notAuthentic: "the encrypted data were changed, or the key is another one"
        case .library(let what): what
        }
    }
}
