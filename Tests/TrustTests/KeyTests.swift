import Cryptography
import Foundation
import TestSupport
import Testing

import Trust

/// The parser of digests, which is the module's own.
enum DigestProbe {
    static func parse(_ text: String) throws { _ = try DigestText(text) }
}

@Suite struct KeyTests {
    /// A folder that is gone afterwards.
    private func withFolder<T>(_ body: (String) throws -> T) throws -> T {
        let folder = FileManager.default.temporaryDirectory.path + "/trust-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        return try body(folder)
    }

    @Test func fingerprintsAreThoseOfOpenSSH() throws {
        // The peer wrote these into the envelopes of its signatures.
        for (image, key) in [("signed-pem.sif", "rsa-pub.pem"), ("signed-ed25519.sif", "ed25519-pub.pem"), ("tiny-ec.sif", "ec-pub.pem")] {
            let text = String(decoding: try Fixture.bytes(image), as: UTF8.self)
            let start = try #require(text.range(of: "\"keyid\":\""))
            let expected = text[start.upperBound...].prefix { $0 != "\"" }
            #expect(try VerificationKey(pem: try Fixture.text(key)).fingerprint == expected)
        }
    }

    @Test(arguments: ["rsa", "ec", "ed25519"]) func whatAKeySignsItsOtherHalfAccepts(_ name: String) throws {
        let key = try SigningKey(pem: try Fixture.text("\(name)-key.pem"))
        let envelope = try DSSEEnvelope.sign(Array("some text".utf8), key)
        let parsed = try #require(DSSEEnvelope(parsing: envelope))
        let other = try VerificationKey(pem: try Fixture.text("\(name)-pub.pem"))
        #expect(parsed.acceptedKey([other])?.fingerprint == other.fingerprint)
        #expect(try VerificationKey(pem: other.pem).fingerprint == other.fingerprint)
        for wrong in ["rsa-pub.pem", "ec-pub.pem", "ed25519-pub.pem"] where !wrong.hasPrefix(name) {
            #expect(parsed.acceptedKey([try VerificationKey(pem: try Fixture.text(wrong))]) == nil)
        }
    }

    @Test func badKeyFilesAreNamed() throws {
        #expect(throws: TrustError.self) { try VerificationKey(pem: "nothing") }
        #expect(throws: TrustError.self) { try VerificationKey(pem: try Fixture.text("rsa-key.pem")) }
        #expect(throws: TrustError.self) { try SigningKey(pem: try Fixture.text("rsa-pub.pem")) }
        var generator = Generator(state: 7)
        let bytes = try Fixture.bytes("ec-key.pem")
        for _ in 0..<500 { _ = try? SigningKey(pem: String(decoding: Mutations.of(bytes, &generator), as: UTF8.self)) }
    }

    @Test func certificatesAreCheckedUpToTheirRoot() throws {
        let leaf = try Fixture.text("leaf-cert.pem")
        let root = try Fixture.text("ca-cert.pem")
        let key = try CodeCertificate.key(pem: leaf, roots: root, intermediates: nil, ocsp: nil)
        #expect(key.fingerprint == (try VerificationKey(pem: try Fixture.text("rsa-pub.pem")).fingerprint))
        func refusal(_ pem: String, _ roots: String?) -> String {
            do {
                _ = try CodeCertificate.key(pem: pem, roots: roots, intermediates: nil, ocsp: nil)
                return ""
            } catch { return "\(error)" }
        }
        #expect(refusal(leaf, nil).hasPrefix("x509: certificate signed by unknown authority"))
        #expect(refusal(try Fixture.text("leaf-server-cert.pem"), root) == "x509: certificate specifies an incompatible key usage")
        // Revocation was asked for, and the certificate names nobody who could tell.
        #expect(throws: Never.self) {
            try CodeCertificate.key(pem: leaf, roots: root, intermediates: nil, ocsp: { _, _ in throw CocoaError(.fileNoSuchFile) })
        }
    }

    @Test func keyringsAreCutIntoTheirKeys() throws {
        let one = try Fixture.bytes("pgp-public.bin")
        let keys = try KeyPackets(one + one).keys
        #expect(keys.map(\.fingerprint) == Array(repeating: "9C3C1B1B23E755F72A55254249523201BBE9E817", count: 2))
        #expect(Array(keys[0].packets) == one)
        // The key, its user and their signature stand before the subkey.
        #expect(one.starts(with: keys[1].primary) && (1..<one.count).contains(keys[1].primary.count))
        // Secret keys have the fingerprint of their public halves.
        let secret = try Fixture.bytes("pgp-secret.bin")
        #expect(try KeyPackets(secret).keys.map(\.fingerprint) == ["9C3C1B1B23E755F72A55254249523201BBE9E817"])
        var generator = Generator(state: 3)
        for bytes in [one, secret] { for _ in 0..<2000 { _ = try KeyPackets(Mutations.of(bytes, &generator)) } }
    }

    @Test func aKeyIsMadeKeptAndUsed() throws {
        try withFolder { folder in
            let ring = Keyring(folder: folder, global: "/nonexistent")
            let keys = try OpenPGPKeys()
            let fingerprint = try keys.generate(userID: "Ada <ada@example.org>", bits: 2048, passphrase: SecretBytes("secret"))
            try ring.append(try keys.export(fingerprint, secret: true, armored: false), to: ring.secretFile)
            try ring.append(try keys.export(fingerprint, secret: false, armored: false), to: ring.publicFile)
            var status = stat()
            #expect(stat(folder, &status) == 0 && status.st_mode & 0o777 == 0o700)
            #expect(stat(ring.secretFile, &status) == 0 && status.st_mode & 0o777 == 0o600)
            let secret = try OpenPGPKeys()
            try ring.loadSecret(into: secret)
            let key = try #require(secret.key(fingerprint))
            #expect(key.hasSecret && key.isProtected && key.name == "Ada <ada@example.org>" && key.bits == 2048 && key.expires == nil)
            #expect(!secret.isPassphrase(SecretBytes("wrong"), of: fingerprint))
            #expect(throws: TrustError.self) { try secret.clearSign(Array("{}".utf8), with: key, passphrase: SecretBytes("wrong")) }
            let signed = try secret.clearSign(Array("{\"a\":1}".utf8), with: key, passphrase: SecretBytes("secret"))
            let message = try #require(ClearSignedText(parsing: signed))
            #expect(message.text == Array("{\"a\":1}".utf8))
            let publicKeys = try OpenPGPKeys(hasSecrets: false)
            try ring.loadLocal(into: publicKeys)
            #expect(try publicKeys.verify(message.signature, of: message.text, now: 0).failure == nil)
            #expect(try publicKeys.verify(message.signature, of: Array("{\"a\":2}".utf8), now: 0).failure == "openpgp: invalid signature")
            // The other ends of the line are not taken for each other, and what stands around the message is refused.
            #expect(ClearSignedText(parsing: signed.flatMap { $0 == 0x0a ? [0x0d, 0x0a] : [$0] })?.text == message.text)
            #expect(ClearSignedText(parsing: Array("x\n".utf8) + signed) == nil)
            #expect(ClearSignedText(parsing: signed + Array("\nx".utf8)) == nil)
            var generator = Generator(state: 5)
            for _ in 0..<2000 {
                guard let damaged = ClearSignedText(parsing: Mutations.of(signed, &generator)) else { continue }
                let verdict = try publicKeys.verify(damaged.signature, of: damaged.text, now: 0)
                if verdict.failure == nil { #expect(damaged.text == message.text) }
            }
        }
    }
}
