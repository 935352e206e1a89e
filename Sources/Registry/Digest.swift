import Crypto

/// The content address of a blob: an algorithm and its hash in lower-case hexadecimal (OCI image specification, digests).
public struct Digest: Hashable, Sendable, CustomStringConvertible {
    /// `sha256` or `sha512`.
    public let algorithm: String
    public let hex: String

    /// Reads `sha256:<64 digits>` or `sha512:<128 digits>`; anything else is nil, so that no digest can be a path.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let length = ["sha256": 64, "sha512": 128][String(parts[0])],
            parts[1].utf8.count == length,
            parts[1].utf8.allSatisfy({
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            })
        else { return nil }
        algorithm = String(parts[0])
        hex = String(parts[1])
    }

    init(sha256 digest: SHA256Digest) {
        algorithm = "sha256"
        hex = Self.hex(digest)
    }

    /// SHA-256 of bytes in memory.
    public init(of bytes: some Sequence<UInt8>) {
        var hash = SHA256()
        hash.update(data: Array(bytes))
        self.init(sha256: hash.finalize())
    }

    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    public var description: String { "\(algorithm):\(hex)" }
    /// Twelve digits for people.
    public var short: String { String(hex.prefix(12)) }
}

/// A running hash of a blob's bytes, by the algorithm of its digest.
public struct StreamHash {
    private var sha256: SHA256?
    private var sha512: SHA512?

    public init(_ algorithm: String) {
        if algorithm == "sha512" { sha512 = SHA512() } else { sha256 = SHA256() }
    }

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        sha256?.update(bufferPointer: bytes)
        sha512?.update(bufferPointer: bytes)
    }

    public func finish() -> String {
        if let sha512 { return "sha512:" + Digest.hex(sha512.finalize()) }
        return "sha256:" + (sha256.map { Digest.hex($0.finalize()) } ?? "")
    }
}
