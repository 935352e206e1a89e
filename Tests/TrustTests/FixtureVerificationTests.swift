import BlockIO
import Foundation
import SIF
import TestSupport
import Testing
import Trust

/// Images that another program has signed.
enum SignedImages {
    static func verifier(_ bytes: [UInt8], _ material: KeyMaterial) throws -> ImageVerifier {
        let source = MemorySource(bytes)
        return try ImageVerifier(try SIFFile(reading: source), source, material)
    }

    static func pem(_ names: String...) throws -> KeyMaterial {
        KeyMaterial(pem: try names.map { try VerificationKey(pem: try Fixture.text($0)) })
    }

    /// Verifies all groups.
    /// - Returns: numbers of the objects that were verified.
    @discardableResult
    static func verify(_ bytes: [UInt8], _ material: KeyMaterial) throws -> [UInt32] {
        let verifier = try verifier(bytes, material)
        var objects: [UInt32] = []
        try verifier.verify(try verifier.groupTasks(withWritable: true)) { objects += $0.objects.map(\.id) }
        return objects
    }

    static func keyring() -> Keyring { Keyring(folder: "/nonexistent", global: Fixture.folder + "pgp-public.bin") }
}

@Suite struct FixtureVerificationTests {
    @Test(arguments: [
        ("signed-pem.sif", "rsa-pub.pem"), ("signed-ed25519.sif", "ed25519-pub.pem"), ("tiny-ec.sif", "ec-pub.pem"),
    ]) func pemSignatures(_ image: String, _ key: String) throws {
        #expect(try SignedImages.verify(try Fixture.bytes(image), try SignedImages.pem(key)) == [1, 2, 3])
    }

    @Test func aSignatureOfAnotherKeyIsRefused() throws {
        #expect(throws: TrustError.self) { try SignedImages.verify(try Fixture.bytes("tiny-ec.sif"), try SignedImages.pem("rsa-pub.pem")) }
        // One of two signers is not enough for `verify`, both are.
        let two = try Fixture.bytes("tiny-two-signers.sif")
        #expect(throws: TrustError.self) { try SignedImages.verify(two, try SignedImages.pem("rsa-pub.pem")) }
        #expect(try SignedImages.verify(two, try SignedImages.pem("rsa-pub.pem", "ed25519-pub.pem")).count == 6)
    }

    @Test func openPGPSignatures() throws {
        let material = KeyMaterial(openPGP: OpenPGPSource(SignedImages.keyring()))
        #expect(try SignedImages.verify(try Fixture.bytes("signed-pgp.sif"), material) == [1, 2, 3])
        // Also where only the key that the image names is read.
        let selective = KeyMaterial(openPGP: OpenPGPSource(SignedImages.keyring(), isSelective: true))
        #expect(try SignedImages.verify(try Fixture.bytes("signed-pgp.sif"), selective) == [1, 2, 3])
        let nobody = KeyMaterial(openPGP: OpenPGPSource(Keyring(folder: "/nonexistent", global: "/nonexistent")))
        #expect(throws: TrustError.self) { try SignedImages.verify(try Fixture.bytes("signed-pgp.sif"), nobody) }
    }

    @Test func legacySignaturesCountOnlyWhereTheyAreAskedFor() throws {
        let material = KeyMaterial(openPGP: OpenPGPSource(SignedImages.keyring()))
        let verifier = try SignedImages.verifier(try Fixture.bytes("tiny-legacy-object.sif"), material)
        #expect(throws: TrustError.self) { try verifier.verify(try verifier.groupTasks(withWritable: true)) { _ in } }
        var objects: [UInt32] = []
        try verifier.verify(try verifier.legacyTasks(all: false)) { objects += $0.objects.map(\.id) }
        #expect(objects == [3])
        #expect(throws: TrustError.self) { try verifier.verify(try verifier.legacyTasks(all: true)) { _ in } }
        #expect(throws: TrustError.self) { try verifier.verify([try verifier.task(group: 1, legacy: true)]) { _ in } }
    }

    @Test(arguments: ["data", "descriptor", "header"]) func tamperedImages(_ kind: String) throws {
        #expect(throws: TrustError.self) {
            try SignedImages.verify(try Fixture.bytes("tiny-tampered-\(kind).sif"), try SignedImages.pem("rsa-pub.pem"))
        }
    }

    /// Bytes that the scheme covers, one by one.
    @Test func everyCoveredByteCounts() throws {
        let bytes = try Fixture.bytes("tiny-ec.sif")
        let material = try SignedImages.pem("ec-pub.pem")
        let file = try SIFFile(reading: MemorySource(bytes))
        var covered = Set(Array(0..<45) + Array(48..<64))
        for object in file.descriptors where object.group != nil {
            let slot = 4096 + (Int(object.id) - 1) * 585
            for range in [0..<5, 13..<17, 17..<33, 41..<49, 57..<585] { covered.formUnion(range.map { slot + $0 }) }
            covered.formUnion(Int(object.offset)..<Int(object.end))
        }
        #expect(covered.count > 6000)
        var wrong: [Int] = []
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 1 << UInt8(index % 8)
            let isGood = (try? SignedImages.verify(changed, material)) != nil
            if covered.contains(index) && isGood { wrong.append(index) }
        }
        #expect(wrong.isEmpty, "changes at \(wrong.prefix(10)) were not found")
    }

    /// CVE-2020-13845 to 13847 and their kin: what is added, moved or taken away is found.
    @Test func objectsCannotBeAddedMovedOrTakenAway() throws {
        let bytes = try Fixture.bytes("tiny-two-groups.sif")
        let material = try SignedImages.pem("rsa-pub.pem")
        #expect(try SignedImages.verify(bytes, material).count == 5)
        func changed(_ body: (inout [UInt8]) -> Void) -> [UInt8] {
            var copy = bytes
            body(&copy)
            return copy
        }
        func slot(_ id: Int) -> Range<Int> { 4096 + (id - 1) * 585..<4096 + id * 585 }
        let attacks: [(String, [UInt8])] = [
            ("an object less", changed { $0.replaceSubrange(slot(2), with: repeatElement(0, count: 585)) }),
            (
                "two objects changed places",
                changed { copy in
                    var (one, two) = (Array(copy[slot(1)]), Array(copy[slot(2)]))
                    (one[5], two[5]) = (2, 1)
                    copy.replaceSubrange(slot(1), with: two)
                    copy.replaceSubrange(slot(2), with: one)
                }
            ),
            (
                "an object in no group",
                changed { $0.replaceSubrange(slot(5).lowerBound + 9..<slot(5).lowerBound + 13, with: [0, 0, 0, 0xf0]) }
            ),
            ("an object in the other group", changed { $0[slot(5).lowerBound + 9] = 1 }),
            (
                "a group without its signature",
                changed { copy in
                    let signatures = (try? SIFFile(reading: MemorySource(bytes)))?.descriptors.filter { $0.type == .signature } ?? []
                    copy.replaceSubrange(slot(Int(signatures.last?.id ?? 6)), with: repeatElement(0, count: 585))
                }
            ),
            (
                "a signature of the other group",
                changed { copy in
                    let signatures = (try? SIFFile(reading: MemorySource(bytes)))?.descriptors.filter { $0.type == .signature } ?? []
                    for signature in signatures { copy[slot(Int(signature.id)).lowerBound + 13] ^= 3 }
                }
            ),
            (
                "an object more",
                changed { copy in
                    // A copy of the first one in a free slot.
                    var one = Array(copy[slot(1)])
                    one[5] = 20
                    copy.replaceSubrange(slot(20), with: one)
                }
            ),
            ("a second object of the same number", changed { copy in copy.replaceSubrange(slot(20), with: Array(copy[slot(1)])) }),
        ]
        for (what, image) in attacks {
            #expect(throws: (any Error).self, "\(what)") { try SignedImages.verify(image, material) }
        }
    }

    @Test func weakAndMalformedDigestsAreRefused() throws {
        // CVE-2022-39237: only strong hashes count. The text is checked before any signature is.
        for text in ["sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "md5:00", "sha256:00", "sha256", "sha256:zz", "a:b:c", ""] {
            #expect(throws: (any Error).self, "\(text)") { try DigestProbe.parse(text) }
        }
    }

    /// Whatever is damaged: an error or the truth, never a crash.
    @Test func damagedImagesNeverVerifyOtherThings() throws {
        var generator = Generator(state: 42)
        let material = KeyMaterial(
            pem: try SignedImages.pem("rsa-pub.pem", "ed25519-pub.pem").pem, openPGP: OpenPGPSource(SignedImages.keyring()))
        for name in ["tiny-two-signers.sif", "tiny-legacy-group.sif", "tiny-x509.sif"] {
            let bytes = try Fixture.bytes(name)
            for _ in 0..<300 {
                let changed = Mutations.of(bytes, &generator)
                _ = try? SignedImages.verify(changed, material)
                guard let verifier = try? SignedImages.verifier(changed, material) else { continue }
                try? verifier.verify((try? verifier.legacyTasks(all: true)) ?? []) { _ in }
            }
        }
    }
}
