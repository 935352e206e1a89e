import BlockIO
import Cryptography
import Foundation
import SIF
import TestSupport
import Testing
import Trust

/// What is checked without the library must be what the library accepts, and no more.
@Suite struct PlainKeyTests {
    private static var now: Int64 { Int64(Date().timeIntervalSince1970) }

    /// A public key and a text that it has signed.
    private struct Signed {
        let key: [UInt8]
        let message: ClearSignedText

        var entry: KeyPackets.Key { get throws { try #require(try KeyPackets(key).keys.first) } }

        /// Of another program, with its notes, and critical subpackets.
        static func ofAPeer() throws -> Signed {
            let image = try Fixture.bytes("signed-pgp.sif")
            let source = MemorySource(image)
            let object = try #require(try SIFFile(reading: source).descriptors.first { $0.type == .signature })
            let bytes = image[Int(object.offset)..<Int(object.end)]
            return Signed(key: try Fixture.bytes("pgp-public.bin"), message: try #require(ClearSignedText(parsing: Array(bytes))))
        }

        static func ofOurs(_ text: String = "{\"a\":1}\n{\"b\":2}") throws -> Signed {
            let keys = try OpenPGPKeys()
            let fingerprint = try keys.generate(userID: "Ada <ada@example.org>", bits: 2048, passphrase: nil)
            let signed = try keys.clearSign(Array(text.utf8), with: try #require(keys.key(fingerprint)), passphrase: nil)
            return Signed(
                key: try keys.export(fingerprint, secret: false, armored: false), message: try #require(ClearSignedText(parsing: signed)))
        }
    }

    private static func library(_ key: [UInt8], _ signature: [UInt8], _ text: [UInt8]) throws -> OpenPGPKeys.Verdict? {
        let keys = try OpenPGPKeys(hasSecrets: false)
        guard (try? keys.load(key, from: .local, name: "key")) != nil else { return nil }
        return try keys.verify(signature, of: text, now: now)
    }

    @Test(arguments: [true, false]) func itSaysWhatTheLibrarySays(_ isOurs: Bool) throws {
        let signed = try isOurs ? Signed.ofOurs() : Signed.ofAPeer()
        let key = try #require(PlainKey(try signed.entry, from: .local, now: Self.now))
        let verdict = try #require(key.accept(signed.message.signature, of: signed.message.text, now: Self.now))
        let expected = try #require(try Self.library(signed.key, signed.message.signature, signed.message.text))
        #expect(expected.failure == nil && verdict.failure == nil)
        #expect(verdict.key == expected.key)
        #expect(verdict.keyID == expected.keyID)
    }

    @Test func nothingIsAcceptedThatTheLibraryRefuses() throws {
        let signed = try Signed.ofOurs()
        let good = try #require(PlainKey(try signed.entry, from: .local, now: Self.now))
        let (signature, text) = (signed.message.signature, signed.message.text)
        for (place, bytes) in [("signature", signature), ("text", text), ("key", Array(try signed.entry.primary))] {
            for index in bytes.indices {
                var changed = bytes
                changed[index] ^= UInt8(1 << (index % 8))
                let isAccepted: Bool =
                    switch place {
                    case "signature": good.accept(changed, of: text, now: Self.now) != nil
                    case "text": good.accept(signature, of: changed, now: Self.now) != nil
                    default:
                        try KeyPackets(changed).keys.first.flatMap { PlainKey($0, from: .local, now: Self.now) }?
                            .accept(signature, of: text, now: Self.now) != nil
                    }
                guard isAccepted else { continue }
                #expect(place == "signature", "a \(place) with another byte at \(index) was accepted")
                #expect(try Self.library(signed.key, changed, text)?.failure == nil, "byte \(index) of the signature")
            }
        }
    }

    @Test func otherFormsAreLeftToTheLibrary() throws {
        let signed = try Signed.ofOurs()
        let primary = Array(try signed.entry.primary)
        func isTaken(_ packets: [UInt8], now: Int64 = Self.now) throws -> Bool {
            try KeyPackets(packets).keys.first.flatMap { PlainKey($0, from: .local, now: now) } != nil
        }
        #expect(try isTaken(primary))
        // A key and a signature of the future, as of a wrong clock.
        #expect(try !isTaken(primary, now: 1_000_000_000))
        let key = try #require(PlainKey(try signed.entry, from: .local, now: Self.now))
        #expect(key.accept(signed.message.signature, of: signed.message.text, now: 1_000_000_000) == nil)
        // More than one user identity, a signature before the first one, and a packet of trust behind the last.
        let tag = primary.indices.filter { primary[$0] == 0xcd }.first { primary.count > $0 + 1 && primary[$0 + 1] == 21 }
        let identity = try #require(tag)
        #expect(try !isTaken(primary + primary[identity...]))
        #expect(try !isTaken(primary[..<identity] + signed.message.signature + primary[identity...]))
        #expect(try !isTaken(primary + [0xcc, 1, 0]))
        // Two signatures, none, another text, an end of a line that is not one of the text's.
        let twice = signed.message.signature + signed.message.signature
        #expect(key.accept(twice, of: signed.message.text, now: Self.now) == nil)
        #expect(key.accept([], of: signed.message.text, now: Self.now) == nil)
        let other = String(decoding: signed.message.text, as: UTF8.self).replacingOccurrences(of: "\n", with: "\r\n")
        #expect(key.accept(signed.message.signature, of: Array(other.utf8), now: Self.now) == nil)
        // The signature of another key.
        #expect(key.accept(try Signed.ofOurs().message.signature, of: signed.message.text, now: Self.now) == nil)
    }

    @Test func damagedPacketsAreRead() throws {
        let signed = try Signed.ofAPeer()
        let key = try #require(PlainKey(try signed.entry, from: .local, now: Self.now))
        var generator = Generator(state: 11)
        for _ in 0..<2000 {
            for entry in try KeyPackets(Mutations.of(Array(try signed.entry.primary), &generator)).keys {
                _ = PlainKey(entry, from: .local, now: Self.now)
            }
            _ = key.accept(Mutations.of(signed.message.signature, &generator), of: signed.message.text, now: Self.now)
        }
    }
}
