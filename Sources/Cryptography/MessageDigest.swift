import CGcrypt
import Glibc

/// A cryptographic hash, fed piece by piece (FIPS 180-4).
public struct MessageDigest: ~Copyable {
    public enum Algorithm: String, Sendable, CaseIterable {
        case sha1, sha224, sha256, sha384, sha512
        case sha512_224, sha512_256

        /// Bytes of a digest.
        public var count: Int {
            switch self {
            case .sha1: 20
            case .sha224, .sha512_224: 28
            case .sha256, .sha512_256: 32
            case .sha384: 48
            case .sha512: 64
            }
        }

        var number: CInt {
            let number: gcry_md_algos =
                switch self {
                case .sha1: GCRY_MD_SHA1
                case .sha224: GCRY_MD_SHA224
                case .sha256: GCRY_MD_SHA256
                case .sha384: GCRY_MD_SHA384
                case .sha512: GCRY_MD_SHA512
                case .sha512_224: GCRY_MD_SHA512_224
                case .sha512_256: GCRY_MD_SHA512_256
                }
            return CInt(bitPattern: number.rawValue)
        }
    }

    public let algorithm: Algorithm
    private let handle: gcry_md_hd_t?

    public init(_ algorithm: Algorithm) throws(CryptographyError) {
        try Library.start()
        var handle: gcry_md_hd_t?
        try Library.check(gcry_md_open(&handle, algorithm.number, 0))
        self.algorithm = algorithm
        self.handle = handle
    }

    deinit { gcry_md_close(handle) }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) { gcry_md_write(handle, bytes.baseAddress, bytes.count) }

    public mutating func update(_ bytes: some Sequence<UInt8>) {
        Array(bytes).withUnsafeBytes { gcry_md_write(handle, $0.baseAddress, $0.count) }
    }

    /// The digest of all that was fed.
    public consuming func finish() -> [UInt8] {
        guard let result = gcry_md_read(handle, algorithm.number) else { return [] }
        return Array(UnsafeBufferPointer(start: result, count: algorithm.count))
    }

    public static func of(_ bytes: [UInt8], _ algorithm: Algorithm = .sha256) throws(CryptographyError) -> [UInt8] {
        var digest = try MessageDigest(algorithm)
        digest.update(bytes)
        return digest.finish()
    }
}
