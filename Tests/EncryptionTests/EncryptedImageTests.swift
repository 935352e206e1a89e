import BlockIO
import Cryptography
import Foundation
import SIF
import SquashFS
import TestSupport
import Testing

import Encryption

@Suite struct EncryptedImageTests {
    private func open(_ bytes: [UInt8], _ keys: EncryptionKeys) throws -> any BlockSource {
        let source = MemorySource(bytes)
        let file = try SIFFile(reading: source)
        return try EncryptedPartition.open(try #require(file.primaryPartition), of: file, source, keys)
    }

    private func keys(_ name: String) throws -> EncryptionKeys {
        var keys = EncryptionKeys()
        try keys.add(privateKeyPEM: try Fixture.text(name), name: name)
        return keys
    }

    /// A root file system with a few files in it.
    private func check(_ plain: any BlockSource) throws {
        let image = try SquashFSImage(plain)
        let inode = try #require(try image.resolve("/etc/passwd"))
        #expect(String(decoding: try image.content(of: inode), as: UTF8.self).hasPrefix("root:x:0:0:"))
    }

    @Test func imagesOfAnotherProgramOpen() throws {
        try check(try open(try Fixture.bytes("encrypted-passphrase.sif"), EncryptionKeys(passphrase: SecretBytes("fixture passphrase"))))
        try check(try open(try Fixture.bytes("encrypted-pem.sif"), try keys("enc-key.pem")))
    }

    @Test func otherKeysDoNot() throws {
        let withPassphrase = try Fixture.bytes("encrypted-passphrase.sif")
        let withKey = try Fixture.bytes("encrypted-pem.sif")
        func refusal(_ bytes: [UInt8], _ keys: EncryptionKeys) -> String {
            do {
                _ = try open(bytes, keys)
                return ""
            } catch { return "\(error)" }
        }
        #expect(refusal(withPassphrase, EncryptionKeys()).contains("is encrypted: give its key"))
        #expect(refusal(withPassphrase, EncryptionKeys(passphrase: SecretBytes("Fixture passphrase"))).contains("cannot be decrypted"))
        #expect(refusal(withPassphrase, try keys("enc-key.pem")).contains("it opens with a pass phrase"))
        #expect(refusal(withKey, try keys("rsa-key.pem")).contains("none of its keys is encrypted for the key"))
        #expect(refusal(withKey, EncryptionKeys(passphrase: SecretBytes("x"))).contains("it opens with an RSA key"))
        #expect(throws: EncryptionError.self) { try keys("enc-pub.pem") }
    }

    /// A changed bit is an error, never other bytes.
    @Test func changedBitsAreErrors() throws {
        let bytes = try Fixture.bytes("encrypted-pem.sif")
        let keys = try keys("enc-key.pem")
        let plain = try open(bytes, keys)
        let truth = try plain.bytes(at: 0, count: Int(plain.size))
        var generator = Generator(state: 1)
        let partition = try #require(try SIFFile(reading: MemorySource(bytes)).primaryPartition)
        var found = 0
        for _ in 0..<30 {
            var changed = bytes
            let place = Int(partition.offset) + Int.random(in: 96..<Int(partition.size) - 1024, using: &generator)
            changed[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            guard let opened = try? open(changed, keys) else {
                found += 1
                continue
            }
            for start in stride(from: 0, to: Int(opened.size), by: 65536) {
                let count = min(65536, Int(opened.size) - start)
                guard let piece = try? opened.bytes(at: UInt64(start), count: count) else {
                    found += 1
                    break
                }
                #expect(piece[...] == truth[start..<start + count])
            }
        }
        #expect(found > 28, "only \(found) of 30 changes were found")
    }

    @Test(arguments: [1, 4095, 4096, 4097, 300_000]) func whatIsSealedOpensAgain(_ size: Int) throws {
        let text = try RandomBytes.make(size)
        let sealed = try SealedImage(MemorySource(text), SecretBytes("a pass phrase"), isRandom: true)
        let stream = try sealed.open()
        var cipherText = [UInt8](repeating: 0, count: Int(sealed.size) + 10)
        let count = try cipherText.withUnsafeMutableBytes { try stream.fill($0) }
        #expect(count == Int(sealed.size))
        cipherText.removeLast(10)
        #expect(size < 32 || cipherText.firstRange(of: text.prefix(32)) == nil)
        let configuration = try GocryptfsConfiguration(parsing: sealed.configuration, name: "test")
        let key = try configuration.contentKey(SecretBytes("a pass phrase"))
        let source = try GocryptfsSource(MemorySource(cipherText), try AuthenticatedCipher(key: key))
        #expect(source.size == UInt64(size))
        #expect(try source.bytes(at: 0, count: size) == text)
        for _ in 0..<50 {
            let start = Int.random(in: 0..<size)
            let length = Int.random(in: 0...size - start)
            #expect(try source.bytes(at: UInt64(start), count: length)[...] == text[start..<start + length])
        }
        #expect(throws: BlockError.self) { try source.bytes(at: UInt64(size), count: 1) }
        #expect(throws: CryptographyError.notAuthentic) { try configuration.contentKey(SecretBytes("another")) }
        // Blocks cannot change places.
        if size > 8192 {
            var swapped = cipherText
            swapped.replaceSubrange(18..<18 + 4128, with: cipherText[18 + 4128..<18 + 8256])
            let damaged = try GocryptfsSource(MemorySource(swapped), try AuthenticatedCipher(key: key))
            #expect(throws: BlockError.self) { try damaged.bytes(at: 0, count: 10) }
        }
    }

    @Test func aKeyIsWrappedForItsOwnerAlone() throws {
        let passphrase = try SealedImage.randomPassphrase()
        #expect(passphrase.count == 32)
        let recipient = try Recipient(pem: try Fixture.text("enc-pub.pem"), name: "enc-pub.pem")
        let message = try WrappedKey.wrap(passphrase, for: recipient)
        #expect(WrappedKey.bits(message) == 2048)
        let unwrapped = try #require(WrappedKey.unwrap(message, with: try keys("enc-key.pem").privateKeys[0]))
        #expect(unwrapped.withBytes { Array($0) } == passphrase.withBytes { Array($0) })
        #expect(WrappedKey.unwrap(message, with: try keys("rsa-key.pem").privateKeys[0]) == nil)
        var generator = Generator(state: 9)
        for _ in 0..<300 { _ = WrappedKey.unwrap(Mutations.of(message, &generator), with: try keys("enc-key.pem").privateKeys[0]) }
    }

    @Test func damagedConfigurationsAreErrors() throws {
        let sealed = try SealedImage(MemorySource([1, 2, 3]), SecretBytes("x"), isRandom: true)
        var generator = Generator(state: 2)
        for _ in 0..<2000 { _ = try? GocryptfsConfiguration(parsing: Mutations.of(sealed.configuration, &generator), name: "test") }
        let text = String(decoding: sealed.configuration, as: UTF8.self)
        // Nobody makes a machine compute for years.
        for (from, to) in [
            ("\"N\": 1024", "\"N\": 1073741824"), ("\"P\": 1", "\"P\": 1000000"), ("\"Version\": 2", "\"Version\": 1"), ("HKDF", "AESSIV"),
        ] {
            #expect(throws: EncryptionError.self) {
                try GocryptfsConfiguration(parsing: Array(text.replacingOccurrences(of: from, with: to).utf8), name: "test")
            }
        }
    }

    @Test func damagedLUKSHeadersAreErrors() throws {
        var header = Array("LUKS".utf8) + [0xba, 0xbe, 0, 2, 0, 0, 0, 0, 0, 0, 0x40, 0]
        header += [UInt8](repeating: 0, count: 16384 - header.count)
        var generator = Generator(state: 4)
        for _ in 0..<500 {
            #expect(throws: EncryptionError.self) { try LUKSSource(MemorySource(Mutations.of(header, &generator)), SecretBytes("x")) }
        }
    }
}
