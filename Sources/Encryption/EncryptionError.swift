import BlockIO
import Cryptography

/// Why something encrypted cannot be opened or made.
public enum EncryptionError: Error, CustomStringConvertible {
    /// Keys were given, and none of them opens it.
    case wrongKey(name: String, why: String)
    /// No key was given at all.
    case noKey(name: String)
    case corrupt(name: String, what: String)
    case unsupported(name: String, what: String)
    case key(String)

    public var description: String {
        switch self {
        case .wrongKey(let name, let why): "\(name) cannot be decrypted: \(why)"
        case .noKey(let name):
            "\(name) is encrypted: give its key with --pem-path or --passphrase, or in SINGULARITY_ENCRYPTION_PEM_PATH or SINGULARITY_ENCRYPTION_PASSPHRASE"
        case .corrupt(let name, let what): "\(name) is damaged: \(what)"
        case .unsupported(let name, let what): "\(name) cannot be opened: \(what)"
        case .key(let what): what
        }
    }
}
