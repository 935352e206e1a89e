import Foundation
import Testing

/// Images that run only with signatures that are accepted.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct VerifiedRunTests {
    static let identities: [Run.Identity] = Site.isRoot ? [.ordinaryUser, .caller] : [.caller]

    /// An image that is signed with a key of a PEM file, and one that is not.
    private func images(_ place: Place) throws {
        try place.image("signed.sif").ok()
        try place.image("plain.sif").ok()
        try place.must("sign", "--key", "\(Site.fixtures)/ec-key.pem", "signed.sif")
    }

    @Test(arguments: identities) func onlyAcceptedImagesRun(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        try images(place)
        let key = "--verify=\(Site.fixtures)/ec-pub.pem"
        #expect(try place.must("exec", key, "signed.sif", "echo", "ran") == "ran\n")
        for (option, image) in [
            (key, "plain.sif"), ("--verify=\(Site.fixtures)/rsa-pub.pem", "signed.sif"), ("--verify", "signed.sif"),
            ("--verify=9C3C1B1B23E755F7", "signed.sif"), ("--verify=/nonexistent", "signed.sif"),
        ] {
            let refused = try place.run("exec", option, image, "echo", "ran")
            #expect(
                refused.status == 255 && refused.output.isEmpty && refused.error.contains("its signatures are not accepted"), "\(refused)")
        }
        // By a policy, also for instances.
        try place.scratch.write(
            "policy", Array("images \(place.scratch.path) signed by \(Site.fixtures)/ec-pub.pem\nimages * refused\n".utf8))
        let policy = "--verify=\(place.scratch.file("policy"))"
        #expect(try place.must("exec", policy, "signed.sif", "echo", "ran") == "ran\n")
        #expect(try place.run("exec", policy, "plain.sif", "echo", "ran").status == 255)
        #expect(try place.run("instance", "start", policy, "plain.sif", "one").status != 0)
        #expect(try place.must("instance", "list").split(separator: "\n").count == 1)
        try place.must("instance", "start", policy, "signed.sif", "two")
        try place.must("instance", "stop", "two")
        // A directory has no signatures.
        try place.must("build", "--sandbox", "box", "signed.sif")
        let box = try place.run("exec", key, "box", "true")
        #expect(box.status == 255 && box.error.contains("only SIF images"), "\(box)")
        // What follows the option is the image, not its value.
        #expect(try place.run("exec", "--verify", "signed.sif", "echo").error.contains("no known key has signed it"))
    }

    @Test func openPGPKeysOfTheKeyringCount() throws {
        let place = try Place(as: .ordinaryUser)
        try place.image("signed.sif").ok()
        try place.must("key", "import", "\(Site.fixtures)/pgp-public.bin")
        try place.must("key", "import", "\(Site.fixtures)/pgp-secret.bin")
        try place.must("sign", "signed.sif")
        #expect(try place.must("exec", "--verify", "signed.sif", "echo", "ran") == "ran\n")
        #expect(try place.must("exec", "--verify=\(SignatureTests.fingerprint)", "signed.sif", "echo", "ran") == "ran\n")
        try place.scratch.write(
            "ecl.toml",
            Array(
                "activated = true\n[[execgroup]]\ntagname = \"a\"\nmode = \"whitelist\"\ndirpath = \"\(place.scratch.path)\"\nkeyfp = [\"\(SignatureTests.fingerprint)\"]\n"
                    .utf8))
        let list = "--verify=\(place.scratch.file("ecl.toml"))"
        #expect(try place.must("exec", list, "signed.sif", "echo", "ran") == "ran\n")
        try Run.program("/bin/mkdir", [place.scratch.file("below")], as: .ordinaryUser).ok()
        try Run.program("/bin/cp", [place.scratch.file("signed.sif"), place.scratch.file("below/a.sif")], as: .ordinaryUser).ok()
        #expect(try place.run("exec", list, "below/a.sif", "true").status == 255)
        // One line of the configuration turns it on, and an option does not turn it off.
        try place.scratch.write("site.conf", Array("verify images = \(place.scratch.file("ecl.toml"))\n".utf8))
        #expect(try place.must("--config", "site.conf", "exec", "signed.sif", "echo", "ran") == "ran\n")
        #expect(try place.run("--config", "site.conf", "exec", "--verify=no", "below/a.sif", "true").status == 255)
        // The key is gone: closed, not open.
        try place.must("key", "remove", SignatureTests.fingerprint)
        #expect(try place.run("exec", list, "signed.sif", "true").status == 255)
    }

    /// Who appends a partition to a signed image changes nothing of what runs.
    @Test func partitionsThatNobodySignedAreLeftOut() throws {
        let place = try Place(as: .ordinaryUser)
        try images(place)
        try place.must("overlay", "create", "--size", "64", "signed.sif")
        try place.must("exec", "--writable", "signed.sif", "sh", "-c", "echo changed > /etc/debian_version; echo more > /etc/appended")
        #expect(try place.text("signed.sif", "/etc/debian_version") == "changed\n")
        let key = "--verify=\(Site.fixtures)/ec-pub.pem"
        let verified = try place.run("exec", key, "signed.sif", "sh", "-c", "cat /etc/debian_version; ls /etc/appended")
        #expect(!verified.output.contains("changed") && !verified.output.contains("appended"), "\(verified)")
        #expect(verified.error.contains("is not covered by a signature, and is left out"), "\(verified)")
        // Its owner may ask for it.
        let owner = try place.run("exec", key, "--writable", "signed.sif", "cat", "/etc/debian_version")
        #expect(owner.output == "changed\n" && owner.error.contains("is not covered by a signature"), "\(owner)")
        try place.must("verify", "--key", "\(Site.fixtures)/ec-pub.pem", "signed.sif")
    }

    /// A file of a web server, or a SIF of a registry: the same bytes come through the same check.
    @Test func pullKeepsOnlyAcceptedImages() throws {
        let place = try Place(as: .ordinaryUser)
        try images(place)
        let server = try FakeRegistry()
        defer { server.stop() }
        let folder = place.scratch.path
        server.answer { request in
            guard let name = request.path.split(separator: "/").last, let bytes = FileManager.default.contents(atPath: "\(folder)/\(name)")
            else {
                return nil
            }
            return FakeRegistry.Response(body: [UInt8](bytes))
        }
        let key = "--verify=\(Site.fixtures)/ec-pub.pem"
        try place.must("pull", key, "a.sif", "http://\(server.address)/signed.sif")
        #expect(try place.must("exec", key, "a.sif", "echo", "ran") == "ran\n")
        let refused = try place.run("pull", key, "b.sif", "http://\(server.address)/plain.sif")
        #expect(refused.status == 255 && refused.error.contains("image not signed by required entities"), "\(refused)")
        #expect(!place.scratch.names.contains("b.sif"))
        let docker = try place.run("pull", key, "c.sif", "docker://\(Site.registry)/debian")
        #expect(docker.status == 255 && docker.error.contains("have no signatures that could be checked"), "\(docker)")
    }

    @Test func buildsAskForFingerprints() throws {
        let place = try Place(as: .ordinaryUser)
        try place.image("base.sif").ok()
        try place.must("key", "import", "\(Site.fixtures)/pgp-public.bin")
        try place.must("key", "import", "\(Site.fixtures)/pgp-secret.bin")
        try place.scratch.write(
            "a.def",
            Array("Bootstrap: localimage\nFrom: base.sif\nFingerprints: \(SignatureTests.fingerprint)\n%environment\nexport A=1\n".utf8))
        let unsigned = try place.run("build", "a.sif", "a.def")
        #expect(unsigned.status == 255 && unsigned.error.contains("Fingerprints:") && !place.scratch.names.contains("a.sif"), "\(unsigned)")
        try place.must("sign", "base.sif")
        try place.must("build", "a.sif", "a.def")
        try place.scratch.write(
            "b.def",
            Array(
                "Bootstrap: localimage\nFrom: base.sif\nFingerprints: \(SignatureTests.fingerprint), \(String(repeating: "A", count: 40))\n"
                    .utf8))
        #expect(try place.run("build", "b.sif", "b.def").status == 255)
        try place.scratch.write(
            "c.def", Array("Bootstrap: docker\nFrom: \(Site.registry)/debian\nFingerprints: \(SignatureTests.fingerprint)\n".utf8))
        let docker = try place.run("build", "c.sif", "c.def")
        #expect(docker.status == 255 && docker.error.contains("is not signed by"), "\(docker)")
    }
}

extension String {
    /// A name that a helper has made; it throws where that has failed.
    fileprivate func ok() throws { try #require(!isEmpty) }
}
