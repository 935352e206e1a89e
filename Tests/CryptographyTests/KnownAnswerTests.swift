import Crypto
import Cryptography
import Foundation
import Testing

/// Answers that standards give.
@Suite struct KnownAnswerTests {
    private func bytes(_ hexadecimal: String) -> [UInt8] {
        var out: [UInt8] = []
        var digits = hexadecimal.filter { !$0.isWhitespace }[...]
        while digits.count >= 2 {
            out.append(UInt8(digits.prefix(2), radix: 16) ?? 0)
            digits = digits.dropFirst(2)
        }
        return out
    }

    private func secret(_ bytes: [UInt8]) -> SecretBytes {
        var copy = bytes
        return SecretBytes(taking: &copy)
    }

    private func content(_ secret: SecretBytes) -> [UInt8] { secret.withBytes { Array($0) } }

    /// FIPS 180-4: the digests of "abc".
    @Test(arguments: [
        (MessageDigest.Algorithm.sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (.sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        (.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (.sha512_256, "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"),
        (.sha512_224, "4634270f707b6a54daae7530460842e20e37ed265ceee9a43e8924aa"),
    ]) func digests(_ algorithm: MessageDigest.Algorithm, _ answer: String) throws {
        #expect(try MessageDigest.of(Array("abc".utf8), algorithm) == bytes(answer))
    }

    /// RFC 7914, section 12.
    @Test func scrypt() throws {
        let key = try KeyDerivation.scrypt(
            SecretBytes("pleaseletmein"), salt: Array("SodiumChloride".utf8), cost: 16384, parallelism: 1, count: 64)
        #expect(
            content(key)
                == bytes(
                    "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
                ))
    }

    /// RFC 6070 has it for SHA-1; the same with SHA-256 is in RFC 7914, section 11.
    @Test func pbkdf2() throws {
        let key = try KeyDerivation.pbkdf2(SecretBytes("passwd"), salt: Array("salt".utf8), hash: .sha256, iterations: 1, count: 64)
        #expect(
            content(key)
                == bytes(
                    "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"
                ))
    }

    /// The reference implementation's own test.
    @Test func argon2() throws {
        let key = try KeyDerivation.argon2(
            SecretBytes("password"), kind: "argon2id", salt: Array("somesalt".utf8), time: 2, memory: 65536, parallelism: 1, count: 32)
        #expect(content(key) == bytes("09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"))
    }

    /// RFC 5869, A.3: without salt and info.
    @Test func hkdf() {
        let key = KeyDerivation.hkdf(secret([UInt8](repeating: 0x0b, count: 22)), info: "", count: 42)
        #expect(content(key) == bytes("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"))
    }

    /// Encrypted by one library and opened by the other, with nonces of 16 bytes and every length around a block.
    @Test func authenticatedCipherIsThatOfAnotherLibrary() throws {
        let key = try RandomBytes.make(32)
        let cipher = try AuthenticatedCipher(key: secret(key))
        for length in [1, 15, 16, 17, 4095, 4096] {
            let text = try RandomBytes.make(length)
            let nonce = try RandomBytes.make(16)
            let data = try RandomBytes.make(24)
            var sealed = [UInt8](repeating: 0, count: length)
            var tag = [UInt8](repeating: 0, count: 16)
            try sealed.withUnsafeMutableBytes { sealed in
                try tag.withUnsafeMutableBytes { tag in
                    try text.withUnsafeBytes { text in
                        try nonce.withUnsafeBytes { nonce in
                            try data.withUnsafeBytes { try cipher.seal(text, nonce: nonce, authenticating: $0, into: sealed, tag: tag) }
                        }
                    }
                }
            }
            let box = try AES.GCM.SealedBox(nonce: AES.GCM.Nonce(data: nonce), ciphertext: sealed, tag: tag)
            #expect(Array(try AES.GCM.open(box, using: SymmetricKey(data: key), authenticating: data)) == text)
            // And back; a changed bit of anything is an error, and leaves zeros.
            func open(_ sealed: [UInt8], _ nonce: [UInt8], _ tag: [UInt8], _ data: [UInt8]) throws -> [UInt8] {
                var out = [UInt8](repeating: 7, count: sealed.count)
                defer { if out != text { #expect(out.allSatisfy { $0 == 0 }) } }
                try out.withUnsafeMutableBytes { out in
                    try sealed.withUnsafeBytes { sealed in
                        try nonce.withUnsafeBytes { nonce in
                            try tag.withUnsafeBytes { tag in
                                try data.withUnsafeBytes { try cipher.open(sealed, nonce: nonce, tag: tag, authenticating: $0, into: out) }
                            }
                        }
                    }
                }
                return out
            }
            #expect(try open(sealed, nonce, tag, data) == text)
            func flipped(_ bytes: [UInt8]) -> [UInt8] { bytes.indices.contains(0) ? [bytes[0] ^ 1] + bytes[1...] : bytes }
            #expect(throws: CryptographyError.notAuthentic) { try open(flipped(sealed), nonce, tag, data) }
            #expect(throws: CryptographyError.notAuthentic) { try open(sealed, flipped(nonce), tag, data) }
            #expect(throws: CryptographyError.notAuthentic) { try open(sealed, nonce, flipped(tag), data) }
            #expect(throws: CryptographyError.notAuthentic) { try open(sealed, nonce, tag, flipped(data)) }
        }
    }

    /// IEEE 1619, vector 4: a sector of 512 bytes with the number 0.
    @Test func sectorCipher() throws {
        let cipher = try SectorCipher(key: secret(bytes("2718281828459045235360287471352631415926535897932384626433832795")))
        var sector = (0..<512).map { UInt8($0 % 256) }
        try sector.withUnsafeMutableBytes { try cipher.seal($0, number: 0) }
        #expect(Array(sector.prefix(16)) == bytes("27a7479befa1d476489f308cd4cfa6e2"))
        try sector.withUnsafeMutableBytes { try cipher.open($0, number: 0) }
        #expect(sector == (0..<512).map { UInt8($0 % 256) })
    }

    @Test func secretsStayOutOfCoreDumps() throws {
        let secret = try SecretBytes.random(count: 100)
        // The mapping's flags: "dd" is do-not-dump, "lo" locked.
        let text = String(decoding: try FileHandle(forReadingFrom: URL(filePath: "/proc/self/smaps")).readToEnd() ?? Data(), as: UTF8.self)
        let address = secret.withBytes { UInt(bitPattern: $0.baseAddress) }
        var isInside = false
        var flags: Substring = ""
        for line in text.split(separator: "\n") {
            let parts = line.prefix { $0 != " " }.split(separator: "-").map { UInt($0, radix: 16) }
            if parts.count == 2, let start = parts[0], let end = parts[1] { isInside = (start..<end).contains(address) }
            if isInside, line.hasPrefix("VmFlags:") { flags = line }
        }
        #expect(flags.contains(" dd"), "\(flags)")
    }
}
