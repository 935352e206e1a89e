import Cryptography
import Linux

/// A digest as signatures spell it: `sha256:` and hexadecimal digits ("SIF integrity, digest").
package struct DigestText: Equatable {
    let algorithm: MessageDigest.Algorithm
    let bytes: [UInt8]

    /// Names of the algorithms that a signature may use; SHA-1 and older ones prove nothing.
    private static let names: [String: MessageDigest.Algorithm] = [
        "sha224": .sha224, "sha256": .sha256, "sha384": .sha384, "sha512": .sha512, "sha512_224": .sha512_224,
        "sha512_256": .sha512_256,
    ]

    init(_ algorithm: MessageDigest.Algorithm, _ bytes: [UInt8]) {
        self.algorithm = algorithm
        self.bytes = bytes
    }

    /// - Throws: a sentence of the peers.
    package init(_ text: String) throws(DigestError) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw DigestError(description: "digest malformed") }
        guard let algorithm = Self.names[String(parts[0])] else { throw DigestError(description: "hash algorithm unsupported") }
        guard let bytes = Hexadecimal.bytes(parts[1]), bytes.count == algorithm.count else {
            throw DigestError(description: "digest malformed")
        }
        self.init(algorithm, bytes)
    }

    var text: String { "\(algorithm.rawValue):\(Hexadecimal.text(bytes))" }
}

package struct DigestError: Error, CustomStringConvertible { package let description: String }
