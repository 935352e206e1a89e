import Foundation
import Testing

/// Keys that have expired or were revoked, made by GnuPG.
@Suite(.enabled(if: Site.isPrepared, "needs scripts/test.sh"))
struct KeyStateTests {
    /// A signed image, and the public key as GnuPG has it after `change`.
    private func verification(_ change: String, name: String) throws -> Run {
        let place = try Place(name, as: .ordinaryUser)
        let folder = place.scratch.path
        func sh(_ script: String) throws -> Run {
            try Run.program(
                "/bin/sh", ["-ec", script], as: .ordinaryUser, environment: ["GNUPGHOME": place.scratch.file("gnupg")], in: folder)
        }
        defer { _ = try? sh("gpgconf --kill all") }
        try sh(
            """
            mkdir -m 700 gnupg
            gpg --batch --quiet --passphrase '' --quick-gen-key 'G <g@example.org>' rsa2048 sign never
            gpg --batch --quiet --export-secret-keys > secret
            cp \(Site.fixtures)/tiny.sif a.sif
            chmod u+w a.sif
            """
        ).ok()
        try place.must("key", "import", "secret")
        try place.must("sign", "a.sif")
        try sh(
            "fpr=$(gpg --list-keys --with-colons | awk -F: '/^fpr/ { print $10; exit }')\n" + change
                + "\ngpg --batch --quiet --export > public"
        ).ok()
        try place.must("key", "import", "public")
        return try place.run("verify", "--local", "a.sif")
    }

    @Test func aGoodKeyOfGnuPGVerifies() throws {
        let result = try verification("true", name: "aGoodKey")
        #expect(result.status == 0 && result.output.contains("Signing entity: G <g@example.org>"), "\(result)")
    }

    /// A key that may only certify others, with a subkey that signs; at a start only what the signature needs is read of it.
    @Test(.enabled(if: Site.mayFUSE, "needs /dev/fuse")) func aSubkeysSignatureLetsAnImageRun() throws {
        let place = try Place(as: .ordinaryUser)
        let script = """
            mkdir -m 700 gnupg
            gpg --batch --quiet --passphrase '' --quick-gen-key 'G <g@example.org>' rsa2048 cert never
            fpr=$(gpg --list-keys --with-colons | awk -F: '/^fpr/ { print $10; exit }')
            gpg --batch --quiet --passphrase '' --quick-add-key $fpr rsa2048 sign never
            gpg --batch --quiet --passphrase '' --quick-add-key $fpr rsa2048 encr never
            gpg --batch --quiet --export-secret-keys > secret
            gpg --batch --quiet --export > public
            gpgconf --kill all
            mkdir -p tree/bin; cp /bin/busybox tree/bin/true
            """
        try Run.program(
            "/bin/sh", ["-ec", script], as: .ordinaryUser, environment: ["GNUPGHOME": place.scratch.file("gnupg")], in: place.scratch.path
        ).ok()
        try place.must("build", "a.sif", "tree")
        try place.must("key", "import", "secret")
        try place.must("sign", "a.sif")
        #expect(try place.run("exec", "--verify", "a.sif", "true").status == 255)
        try place.must("key", "import", "public")
        try place.must("exec", "--verify", "a.sif", "true")
        #expect(try place.must("verify", "--local", "a.sif").contains("Signing entity: G <g@example.org>"))
    }

    @Test func anExpiredKeyIsNamed() throws {
        let result = try verification(
            "gpg --batch --quiet --passphrase '' --quick-set-expire $fpr seconds=1; sleep 3", name: "anExpiredKey")
        #expect(result.status == 255 && result.error.contains("openpgp: key expired"), "\(result)")
    }

    /// What a server knows newer of a key that is here already.
    @Test func aProlongedKeyIsPulledAnew() throws {
        let place = try Place(as: .ordinaryUser)
        let server = try FakeRegistry()
        defer { server.stop() }
        let script = """
            mkdir -m 700 gnupg
            gpg --batch --quiet --passphrase '' --quick-gen-key 'G <g@example.org>' rsa2048 sign never
            fpr=$(gpg --list-keys --with-colons | awk -F: '/^fpr/ { print $10; exit }')
            printf %s $fpr > fingerprint
            gpg --batch --quiet --export-secret-keys > secret
            gpg --batch --quiet --passphrase '' --quick-set-expire $fpr seconds=1
            gpg --batch --quiet --export > old
            sleep 2
            gpg --batch --quiet --passphrase '' --quick-set-expire $fpr 1y
            gpg --batch --quiet --armor --export > new
            cp \(Site.fixtures)/tiny.sif a.sif
            chmod u+w a.sif
            gpgconf --kill all
            """
        try Run.program(
            "/bin/sh", ["-ec", script], as: .ordinaryUser, environment: ["GNUPGHOME": place.scratch.file("gnupg")], in: place.scratch.path
        ).ok()
        let fingerprint = try String(contentsOfFile: place.scratch.file("fingerprint"), encoding: .utf8)
        try place.must("key", "import", "secret")
        try place.must("sign", "a.sif")
        try place.must("key", "import", "old")
        #expect(try place.run("verify", "--local", "a.sif").error.contains("openpgp: key expired"))
        let new = [UInt8](try Data(contentsOf: URL(filePath: place.scratch.file("new"))))
        server.answer { _ in FakeRegistry.Response(body: new) }
        let pulled = try place.must("key", "pull", "--url", "http://\(server.address)", fingerprint)
        #expect(pulled.hasPrefix("0 key(s) added"), "\(pulled)")
        try place.must("verify", "--local", "a.sif")
        #expect(try place.must("key", "list").components(separatedBy: "Fingerprint:").count == 2)
    }

    @Test func aRevokedKeyIsNamed() throws {
        let result = try verification(
            "sed 's/^:-----BEGIN/-----BEGIN/' gnupg/openpgp-revocs.d/$fpr.rev > revocation; gpg --batch --quiet --import revocation",
            name: "aRevokedKey")
        #expect(result.status == 255 && result.error.contains("openpgp: key revoked"), "\(result)")
    }

    /// RFC 4880's weakest hash that was ever in use here.
    @Test func signaturesWithSHA1AreRefused() throws {
        let place = try Place(as: .ordinaryUser)
        try Run.program("/bin/cp", ["\(Site.fixtures)/signed-pgp.sif", place.scratch.file("good.sif")], as: .ordinaryUser).ok()
        try place.must("key", "import", "\(Site.fixtures)/pgp-public.bin")
        let script = """
            import subprocess, sys
            program, folder = sys.argv[1:]
            text = subprocess.run([program, "sif", "dump", "4", "good.sif"], capture_output=True).stdout.decode()
            open("text", "w").write(text.split("\\n\\n", 1)[1].split("\\n-----BEGIN PGP SIGNATURE")[0])
            """
        try Run.program("/usr/bin/python3", ["-c", script, Site.program, Site.fixtures], as: .ordinaryUser, in: place.scratch.path).ok()
        try Run.program(
            "/bin/sh",
            [
                "-ec",
                """
                mkdir -m 700 gnupg
                gpg --batch --quiet --import \(Site.fixtures)/pgp-secret.bin
                gpg --batch --quiet --pinentry-mode loopback --passphrase '' --digest-algo SHA1 --clearsign < text > signature
                gpgconf --kill all
                """,
            ], as: .ordinaryUser, environment: ["GNUPGHOME": place.scratch.file("gnupg")], in: place.scratch.path
        ).ok()
        try Run.program("/bin/cp", ["\(Site.fixtures)/signed-pgp.sif", place.scratch.file("weak.sif")], as: .ordinaryUser).ok()
        try Run.program("/bin/chmod", ["u+w", place.scratch.file("weak.sif")], as: .ordinaryUser).ok()
        try place.must("sif", "del", "4", "weak.sif")
        try place.must(
            "sif", "add", "--datatype", "5", "--signhash", "1", "--signentity", SignatureTests.fingerprint, "weak.sif", "signature")
        // It is a signature of the group, as the others are.
        let file = try FileHandle(forUpdating: URL(filePath: place.scratch.file("weak.sif")))
        try file.seek(toOffset: 4096 + 3 * 585 + 9)
        try file.write(contentsOf: Data([0, 0, 0, 0xf0, 1, 0, 0, 0xf0]))
        try file.close()
        let result = try place.run("verify", "--local", "weak.sif")
        #expect(result.status == 255 && result.error.contains("signature object 4 not valid: openpgp: "), "\(result)")
        try place.must("verify", "--local", "good.sif")
    }
}
