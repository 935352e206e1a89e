import BlockIO
import Foundation
import SIF
import TestSupport
import Testing
import Trust

@Suite struct PolicyTests {
    private let fingerprint = "9C3C1B1B23E755F72A55254249523201BBE9E817"

    private func decide(_ policy: VerificationPolicy, _ image: String, at path: String = "/images/a.sif") throws -> PolicyDecision.Accepted
    {
        let source = MemorySource(try Fixture.bytes(image))
        let decision = PolicyDecision(policy) { OpenPGPSource(SignedImages.keyring(), isSelective: true) }
        return try decision.accept(try SIFFile(reading: source), source, path: path)
    }

    private func policy(_ text: String) throws -> VerificationPolicy { try VerificationPolicy(parsing: text, path: "policy") }

    /// A list of the peers in a file of its own.
    private func list(_ text: String) throws -> VerificationPolicy {
        let path = FileManager.default.temporaryDirectory.path + "/ecl-\(UUID().uuidString).toml"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try VerificationPolicy(request: path)
    }

    @Test func theFirstLineThatFitsDecides() throws {
        let pem = Fixture.folder + "rsa-pub.pem"
        let text = """
            # comment
            images /images/pgp    signed by \(fingerprint)
            images /images        signed by any of \(pem), \(fingerprint)
            images /both          signed by all of \(pem), \(Fixture.folder)ed25519-pub.pem
            images /open          unsigned allowed
            images /none          not signed by \(fingerprint)
            images /known         signed by anyone known
            images *              refused
            """
        let policy = try policy(text)
        #expect(try decide(policy, "signed-pgp.sif", at: "/images/pgp/x.sif").signers.count == 1)
        #expect(throws: TrustError.self) { try decide(policy, "tiny-x509.sif", at: "/images/pgp/x.sif") }
        #expect(try decide(policy, "tiny-x509.sif", at: "/images/x.sif").objects == [1, 2, 3])
        // Names are compared, not text.
        #expect(throws: TrustError.self) { try decide(policy, "tiny-x509.sif", at: "/images2/x.sif") }
        #expect(throws: TrustError.self) { try decide(policy, "tiny-x509.sif", at: "/x.sif") }
        #expect(try decide(policy, "tiny-two-signers.sif", at: "/both/x.sif").signers.count == 2)
        #expect(throws: TrustError.self) { try decide(policy, "tiny-x509.sif", at: "/both/x.sif") }
        #expect(try decide(policy, "tiny.sif", at: "/open/x.sif").objects == nil)
        #expect(throws: TrustError.self) { try decide(policy, "signed-pgp.sif", at: "/none/x.sif") }
        #expect(throws: TrustError.self) { try decide(policy, "tiny.sif", at: "/none/x.sif") }
        #expect(try decide(policy, "signed-pgp.sif", at: "/known/x.sif").signers.count == 1)
        #expect(throws: TrustError.self) { try decide(policy, "tiny.sif", at: "/known/x.sif") }
    }

    @Test func aPolicyWithoutALineForAnImageRefusesIt() throws {
        #expect(throws: TrustError.self) { try decide(try policy("images /else unsigned allowed"), "signed-pgp.sif") }
        #expect(throws: TrustError.self) { try decide(try policy(""), "signed-pgp.sif") }
    }

    @Test(arguments: [
        "images", "images * signed", "images relative refused", "images * signed by", "images * signed by ,", "allow *",
        "images * signed by 1234", "images * signed by /nonexistent.pem", "images * refused or not",
    ]) func badLinesAreNamed(_ line: String) throws {
        do {
            _ = try policy("\n\(line)\n")
            Issue.record("\(line) was accepted")
        } catch { #expect("\(error)".hasPrefix("policy, line 2: "), "\(error)") }
    }

    @Test func partialSignaturesAreNotEnough() throws {
        let signer = try VerificationPolicy(request: Fixture.folder + "rsa-pub.pem")
        #expect(throws: TrustError.self) { try decide(signer, "tiny-object.sif") }
        for kind in ["data", "descriptor", "header"] {
            #expect(throws: TrustError.self) { try decide(signer, "tiny-tampered-\(kind).sif") }
        }
    }

    @Test func thePeersListsAreUnderstood() throws {
        func group(_ mode: String, _ folder: String = "", _ key: String? = nil) -> String {
            "[[execgroup]]\ntagname = \"g\"\nmode = \"\(mode)\"\ndirpath = \"\(folder)\"\nkeyfp = [\"\(key ?? fingerprint)\"]\n"
        }
        let other = String(repeating: "A", count: 40)
        #expect(try decide(try list("activated = false\n"), "tiny.sif").objects == nil)
        #expect(try decide(try list("activated = true\n" + group("whitelist")), "signed-pgp.sif").signers.count == 1)
        #expect(try decide(try list("activated = true\n" + group("whitestrict", "/images")), "signed-pgp.sif").signers.count == 1)
        // The directory itself is meant, not what is below.
        #expect(throws: TrustError.self) {
            try decide(try list("activated = true\n" + group("whitelist", "/images")), "signed-pgp.sif", at: "/images/below/a.sif")
        }
        #expect(throws: TrustError.self) { try decide(try list("activated = true\n" + group("blacklist")), "signed-pgp.sif") }
        #expect(try decide(try list("activated = true\n" + group("blacklist", "", other)), "signed-pgp.sif").signers.count == 1)
        #expect(throws: TrustError.self) { try decide(try list("activated = true\n" + group("whitelist", "", other)), "signed-pgp.sif") }
        #expect(throws: TrustError.self) { try decide(try list("activated = true\n"), "signed-pgp.sif") }
        // Legacy signatures only where the list says so.
        let legacy = group("whitelist")
        #expect(throws: TrustError.self) { try decide(try list("activated = true\n" + legacy), "tiny-legacy-object.sif") }
        #expect(try decide(try list("activated = true\nlegacyinsecure = true\n" + legacy), "tiny-legacy-object.sif").objects == [3])
        for bad in [
            "activated = true\nnonsense = 1\n", "activated = true\n" + group("allow"), "x",
            "activated = true\n" + group("whitelist", "", "AB"),
        ] {
            #expect(throws: TrustError.self) { try list(bad) }
        }
    }

    @Test func damagedPoliciesAreErrors() throws {
        var generator = Generator(state: 11)
        let text = Array("images /a signed by any of \(fingerprint), \(fingerprint)\nimages * refused\n".utf8)
        for _ in 0..<2000 { _ = try? policy(String(decoding: Mutations.of(text, &generator), as: UTF8.self)) }
    }
}
