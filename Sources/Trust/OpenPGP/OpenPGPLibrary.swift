import CRNP
import Glibc

/// librnp, loaded when the first OpenPGP key or signature is met.
enum OpenPGPLibrary {
    /// - Parameter hasSecrets: secret keys will be used; memory is locked for them.
    /// - Throws: ``TrustError/key(_:)`` that says what to install.
    static func load(hasSecrets: Bool) throws(TrustError) -> UnsafePointer<crnp_functions> {
        var why: UnsafePointer<CChar>?
        guard let functions = crnp_load(hasSecrets ? 1 : 0, &why) else {
            throw .key(
                "OpenPGP keys need the library librnp, which is not there (\(why.map { String(cString: $0) } ?? "")); install Debian's package librnp0, or use PEM keys with --key"
            )
        }
        return functions
    }

    /// Calls the library with standard error closed off: Debian's build of it prints its own notes there, which cannot be turned
    /// off. Only for a process without other threads that write.
    static func quietly<T, E: Error>(_ body: () throws(E) -> T) throws(E) -> T {
        let saved = fcntl(2, F_DUPFD_CLOEXEC, 3)
        let null = open("/dev/null", O_WRONLY | O_CLOEXEC)
        if saved >= 0 && null >= 0 { dup2(null, 2) }
        defer {
            if saved >= 0 {
                dup2(saved, 2)
                close(saved)
            }
            if null >= 0 { close(null) }
        }
        return try body()
    }
}

/// A call of librnp that failed.
struct OpenPGPFailure: Error, CustomStringConvertible {
    let code: UInt32

    static let keyNotFound: UInt32 = 0x1200_0005
    static let wrongPassphrase: UInt32 = 0x1200_0004
    static let signatureExpired: UInt32 = 0x1200_000b

    var description: String {
        switch code {
        case Self.keyNotFound: "the key is not there"
        case Self.wrongPassphrase: "the pass phrase is wrong"
        case 0x1000_0001, 0x1300_0000...: "these are no OpenPGP keys, or damaged ones"
        default: "librnp reports the error 0x\(String(code, radix: 16))"
        }
    }
}
