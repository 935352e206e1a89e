import Foundation
import Testing

/// `sign`, `verify` and `key`, by hand and against servers on loopback.
@Suite(.enabled(if: Site.isPrepared, "needs scripts/test.sh"))
struct SignatureTests {
    static let fingerprint = "9C3C1B1B23E755F72A55254249523201BBE9E817"

    private func place(_ name: String = #function) throws -> Place { try Place(name) }

    /// Copies a fixture for the user.
    private func copy(_ name: String, to target: String? = nil, _ place: Place) throws {
        let copied = try Run.program("/bin/cp", ["\(Site.fixtures)/\(name)", place.scratch.file(target ?? name)], as: place.identity)
        try #require(copied.status == 0, "\(copied)")
        try Run.program("/bin/chmod", ["u+w", place.scratch.file(target ?? name)], as: place.identity).ok()
    }

    // MARK: The peers' words

    private struct Example { var words: [String]; var lines: [String]; var status: Int32 }

    /// Commands, what the peer printed, and its status.
    private static func examples(_ file: String) throws -> [Example] {
        var found: [Example] = []
        var current: Example?
        for line in try String(contentsOfFile: "\(Site.fixtures)/\(file)", encoding: .utf8).split(
            separator: "\n", omittingEmptySubsequences: false)
        {
            if line.hasPrefix("$ ") {
                current = Example(words: line.dropFirst(2).split(separator: " ").map(String.init), lines: [], status: 0)
            } else if line.hasPrefix("rc="), var example = current {
                example.status = Int32(line.dropFirst(3)) ?? -1
                found.append(example)
                current = nil
            } else if !line.isEmpty {
                current?.lines.append(String(line))
            }
        }
        return found
    }

    @Test(arguments: [
        "tiny-ec", "tiny-legacy-group", "tiny-legacy-object", "tiny-object", "tiny-tampered-data", "tiny-tampered-descriptor",
        "tiny-tampered-header", "tiny-two-groups", "tiny-two-signers", "tiny-x509",
    ]) func verifySaysWhatThePeerSays(_ name: String) throws {
        let place = try place("verifySays-\(name)")
        try place.must("key", "import", "\(Site.fixtures)/pgp-public.asc")
        let examples = try Self.examples("\(name).verify.txt")
        #expect(!examples.isEmpty)
        for example in examples {
            // In the folder of the fixtures, as the words name files there.
            let words = example.words.map {
                FileManager.default.fileExists(atPath: "\(Site.fixtures)/\($0)") ? "\(Site.fixtures)/\($0)" : $0
            }
            let result = try place.run(words)
            #expect(result.status == example.status, "\(words): \(result)")
            let printed = (result.output + "\n" + result.error).replacingOccurrences(of: "\(Site.fixtures)/", with: "")
                .split(separator: "\n").map(String.init)
            // What to do may stand behind the peer's words.
            for line in example.lines { #expect(printed.contains { $0.hasPrefix(line) }, "\(words): \(line) is missing in \(printed)") }
            #expect(printed.count == example.lines.count, "\(words): \(printed)")
        }
    }

    @Test func jsonIsThePeers() throws {
        let place = try place()
        try place.must("key", "import", "\(Site.fixtures)/pgp-public.bin")
        let expected = try String(contentsOfFile: "\(Site.fixtures)/verify-pgp.json.txt", encoding: .utf8)
        let json = expected[(expected.firstIndex(of: "{") ?? expected.startIndex)...]
        let result = try place.run("verify", "--local", "--json", "\(Site.fixtures)/signed-pgp.sif")
        #expect(result.output == json)
        let unsigned = try place.run("verify", "--local", "--json", "\(Site.fixtures)/tiny.sif")
        #expect(unsigned.status == 255 && unsigned.output == "{\n  \"Signatures\": 0,\n  \"SignerKeys\": null\n}\n", "\(unsigned)")
    }

    // MARK: Signing

    @Test(arguments: ["rsa", "ec", "ed25519"]) func pemKeysSign(_ key: String) throws {
        let place = try place("pemKeysSign-\(key)")
        try copy("tiny.sif", place)
        try place.must("sign", "--key", "\(Site.fixtures)/\(key)-key.pem", "tiny.sif")
        try place.must("verify", "--key", "\(Site.fixtures)/\(key)-pub.pem", "tiny.sif")
        for other in ["rsa", "ec", "ed25519"] where other != key {
            #expect(try place.run("verify", "--key", "\(Site.fixtures)/\(other)-pub.pem", "tiny.sif").status == 255)
        }
        let wrong = try place.run("sign", "--key", "\(Site.fixtures)/\(key)-pub.pem", "tiny.sif")
        #expect(wrong.status == 255 && wrong.error.contains("correct private key"), "\(wrong)")
        let none = try place.run("verify", "--local", "tiny.sif")
        #expect(none.status == 255 && none.error.contains("key material not provided for DSSE envelope signature"), "\(none)")
    }

    @Test func openPGPKeysAreMadeAndSign() throws {
        let place = try place()
        try place.scratch.write("phrase", Array("a secret\n".utf8))
        try place.scratch.write("wrong", Array("another\n".utf8))
        try copy("tiny.sif", place)
        let empty = try place.run("sign", "tiny.sif")
        #expect(empty.status == 255 && empty.error.contains("Failed to sign container: keyring is empty"), "\(empty)")
        let made = try place.must(
            "key", "newpair", "--name", "Ada", "--email", "ada@example.org", "--comment", "test", "--bit-length", "2048",
            "--passphrase-file",
            "phrase")
        #expect(made == "Generating Entity and OpenPGP Key Pair... done\n")
        let listed = try place.must("key", "list", "--secret")
        #expect(
            listed.contains("User:              Ada (test) <ada@example.org>") && listed.contains("Length (in bits):  2048"), "\(listed)")
        let wrong = try place.run("sign", "--passphrase-file", "wrong", "tiny.sif")
        #expect(wrong.status == 255 && wrong.error.contains("the pass phrase is wrong"), "\(wrong)")
        let nobody = try place.run("sign", "tiny.sif")
        #expect(nobody.status == 255 && nobody.error.contains("no terminal to ask for a pass phrase"), "\(nobody)")
        #expect(try place.run("sign", "--keyidx", "9", "tiny.sif").error.contains("index out of range"))
        try place.must("sign", "--passphrase-file", "phrase", "tiny.sif")
        let environment = try place.run("sign", "tiny.sif", environment: ["SINGULARITY_KEY_PASSPHRASE": "a secret"])
        #expect(environment.status == 0, "\(environment)")
        let verified = try place.must("verify", "--local", "tiny.sif")
        #expect(verified.components(separatedBy: "Objects verified:").count == 3, "\(verified)")
        // Nobody else can read the keys.
        let modes = try Run.program("/usr/bin/find", [place.scratch.file("conf/keys"), "-perm", "/077"], as: place.identity)
        #expect(modes.output.isEmpty, "\(modes)")
        let digits = try #require(listed.split(separator: "\n").first { $0.contains("Fingerprint:") }?.split(separator: " ").last)
        try place.must("key", "export", "--armor", "--fingerprint", String(digits), "public.asc")
        try place.must("key", "export", "--secret", "--fingerprint", String(digits), "secret.pgp")
        #expect(try place.run("key", "import", "public.asc").status == 2)
        try place.must("key", "remove", "--both", String(digits))
        #expect(try place.run("key", "remove", String(digits)).status == 255)
        let gone = try place.run("verify", "--local", "tiny.sif")
        #expect(gone.status == 255 && gone.error.contains("openpgp: signature made by unknown entity; `singularity key pull"), "\(gone)")
        try place.must("key", "import", "public.asc")
        try place.must("verify", "--local", "tiny.sif")
        try place.must("key", "import", "secret.pgp")
        try place.must("sign", "--passphrase-file", "phrase", "--fingerprint", String(digits), "tiny.sif")
    }

    @Test func keyringsOfThePeersAreTakenOver() throws {
        let place = try place()
        try Run.program("/bin/mkdir", [place.scratch.file("old")], as: place.identity).ok()
        for (name, fixture) in [("pgp-public", "pgp-public.bin"), ("pgp-secret", "pgp-secret.bin")] {
            try copy(fixture, to: "old/\(name)", place)
        }
        let taken = try place.must("key", "import", "old")
        #expect(taken.contains("added to the public keyring") && taken.contains("added to the private keyring"), "\(taken)")
        // A second time nothing is left to do.
        #expect(try place.must("key", "import", "old").isEmpty)
        try copy("tiny.sif", place)
        try place.must("sign", "tiny.sif")
        #expect(try place.must("verify", "--local", "tiny.sif").contains("Fingerprint: \(Self.fingerprint)"))
    }

    /// The kernel keeps pass phrases where it has a service for that.
    @Test func theKernelKeepsPassphrases() throws {
        let place = try place()
        try place.scratch.write("phrase", Array("kept\n".utf8))
        try place.must("key", "newpair", "--name", "K", "--email", "k@example.org", "--bit-length", "2048", "--passphrase-file", "phrase")
        try place.scratch.write("wrong", Array("x\n".utf8))
        #expect(try place.run("key", "unlock", "--passphrase-file", "wrong").status == 2)
        let unlocked = try place.run("key", "unlock", "--timeout", "60", "--passphrase-file", "phrase")
        guard unlocked.status == 0 else {
            #expect(unlocked.error.contains("this kernel keeps no secrets"), "\(unlocked)")
            return
        }
        try copy("tiny.sif", place)
        try place.must("sign", "tiny.sif")
        try place.must("key", "lock")
        #expect(try place.run("sign", "tiny.sif").status == 255)
    }

    // MARK: Writable partitions

    @Test func writingVoidsNoSignatureOfTheImmutablePart() throws {
        let place = try place()
        try copy("tiny.sif", place)
        // Added before it is signed, a partition gets a group of its own; added after, too.
        try place.must("overlay", "create", "--size", "64", "tiny.sif")
        let signed = try place.run("sign", "--key", "\(Site.fixtures)/ec-key.pem", "tiny.sif")
        #expect(signed.status == 0 && signed.error.contains("has a group of its own now"), "\(signed)")
        let verified = try place.run("verify", "--key", "\(Site.fixtures)/ec-pub.pem", "tiny.sif")
        #expect(verified.status == 0 && verified.error.contains("is not covered by a signature"), "\(verified)")
        let strict = try place.run("verify", "--all", "--key", "\(Site.fixtures)/ec-pub.pem", "tiny.sif")
        #expect(strict.status == 255 && strict.error.contains("signature not found for object group 2"), "\(strict)")
        // It can be signed itself while it is at rest; then a change of it is told.
        try place.must("sign", "--group-id", "2", "--key", "\(Site.fixtures)/ec-key.pem", "tiny.sif")
        try place.must("verify", "--all", "--key", "\(Site.fixtures)/ec-pub.pem", "tiny.sif")
        let offset = try #require(
            try place.must("sif", "list", "tiny.sif").split(separator: "\n").first { $0.contains("Ext3/Overlay") }?.split(separator: "|")[3]
                .split(separator: "-").first.flatMap { UInt64($0) })
        let file = try FileHandle(forUpdating: URL(filePath: place.scratch.file("tiny.sif")))
        try file.seek(toOffset: offset + 1_000_000)
        try file.write(contentsOf: Data([1, 2, 3]))
        try file.close()
        let changed = try place.run("verify", "--key", "\(Site.fixtures)/ec-pub.pem", "tiny.sif")
        #expect(changed.status == 0 && changed.error.contains("is not what was signed"), "\(changed)")
        #expect(try place.run("verify", "--group-id", "2", "--key", "\(Site.fixtures)/ec-pub.pem", "tiny.sif").status == 255)
        try place.must("verify", "--group-id", "1", "--key", "\(Site.fixtures)/ec-pub.pem", "tiny.sif")
    }

    /// Nothing to check is not the same as nothing wrong.
    @Test func aDataContainerMustBeSigned() throws {
        let place = try place()
        try place.must("data", "create", "--size", "64", "d.sif")
        let unsigned = try place.run("verify", "--key", "\(Site.fixtures)/ec-pub.pem", "d.sif")
        #expect(unsigned.status == 255 && unsigned.error.contains("signature not found for object group 1"), "\(unsigned)")
        try place.must("sign", "--key", "\(Site.fixtures)/ec-key.pem", "d.sif")
        try place.must("verify", "--key", "\(Site.fixtures)/ec-pub.pem", "d.sif")
    }

    // MARK: Key servers

    /// A key server with or without TLS, while `body` runs.
    private func withServer(_ place: Place, secure: Bool = false, _ body: (String, [String: String]) throws -> Void) throws {
        try FileManager.default.createDirectory(atPath: place.scratch.file("served"), withIntermediateDirectories: true)
        var words = ["\(Site.fixtures)/key-server.py", place.scratch.file("served")]
        var environment: [String: String] = [:]
        if secure {
            try Run.program(
                "/usr/bin/openssl",
                [
                    "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", place.scratch.file("tls.key"), "-out",
                    place.scratch.file("tls.pem"), "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1,DNS:localhost",
                ]
            ).ok()
            chmod(place.scratch.file("tls.pem"), 0o644)
            words += [place.scratch.file("tls.pem"), place.scratch.file("tls.key")]
            environment["SSL_CERT_FILE"] = place.scratch.file("tls.pem")
        }
        let server = try Run.start("/usr/bin/python3", words)
        defer {
            kill(server.identifier, SIGKILL)
            _ = server.finish()
        }
        try #require(server.waitFor("\n"))
        let port = server.printed().trimmingCharacters(in: .whitespacesAndNewlines)
        try body("\(secure ? "https" : "http")://127.0.0.1:\(port)", environment)
    }

    @Test(arguments: [false, true]) func keysAreExchangedWithAServer(_ secure: Bool) throws {
        let place = try place("keysAreExchanged-\(secure)")
        try withServer(place, secure: secure) { url, environment in
            func run(_ words: String...) throws -> Run { try place.run(words, environment: environment) }
            try place.must("key", "import", "\(Site.fixtures)/pgp-public.asc")
            let pushed = try run("key", "push", "--url", url, Self.fingerprint)
            #expect(pushed.status == 0 && pushed.output == "public key `\(Self.fingerprint)' pushed to server successfully\n", "\(pushed)")
            try place.must("key", "remove", Self.fingerprint)
            let short = try run("key", "search", "--url", url, "fixture@example.org")
            #expect(short.output.hasPrefix("Showing 1 results\n") && short.output.contains("BBE9E817"), "\(short)")
            let long = try run("key", "search", "--long-list", "--url", url, "0x\(Self.fingerprint.suffix(16))")
            #expect(long.output.contains(Self.fingerprint) && long.output.contains("[enabled]"), "\(long)")
            // A key that is missing is asked for; --local asks nobody.
            #expect(try run("verify", "--local", "--url", url, "\(Site.fixtures)/signed-pgp.sif").status == 255)
            let remote = try run("verify", "--url", url, "\(Site.fixtures)/signed-pgp.sif")
            #expect(remote.status == 0 && remote.output.contains("[REMOTE]           Fingerprint: \(Self.fingerprint)"), "\(remote)")
            let pulled = try run("key", "pull", "--url", url, Self.fingerprint)
            #expect(pulled.output.hasPrefix("1 key(s) added to keyring of trust "), "\(pulled)")
            let known = try run("verify", "--local", "\(Site.fixtures)/signed-pgp.sif")
            #expect(known.output.contains("[LOCAL]"), "\(known)")
            let missing = try run("key", "pull", "--url", url, String(repeating: "A", count: 40))
            #expect(missing.status == 2 && missing.error.contains("no key 0x"), "\(missing)")
            #expect(try run("key", "pull", "--url", url, "1234").error.contains("please provide a keyid(16 chars)"))
        }
        // The server has gone.
        let down = try place.run("key", "pull", "--url", "http://127.0.0.1:9", Self.fingerprint)
        #expect(down.status == 2 && down.error.contains("gives no answer: connection refused"), "\(down)")
        try place.must("key", "remove", Self.fingerprint)
        let unverified = try place.run("verify", "--url", "http://127.0.0.1:9", "\(Site.fixtures)/signed-pgp.sif")
        #expect(unverified.status == 255 && unverified.error.contains("WARNING: failed to get key material"), "\(unverified)")
    }

    /// What a server sends in the place of a key is not taken.
    @Test func anotherKeyThanTheOneAskedForIsRefused() throws {
        let place = try place()
        let registry = try FakeRegistry()
        defer { registry.stop() }
        let key = [UInt8](try Data(contentsOf: URL(filePath: "\(Site.fixtures)/pgp-public.asc")))
        registry.answer { _ in FakeRegistry.Response(body: key) }
        let pulled = try place.run("key", "pull", "--url", "http://\(registry.address)", String(repeating: "B", count: 40))
        #expect(pulled.status == 2 && pulled.error.contains("sent another key"), "\(pulled)")
        registry.answer { _ in FakeRegistry.Response(body: Array("nonsense".utf8)) }
        let nonsense = try place.run("key", "pull", "--url", "http://\(registry.address)", Self.fingerprint)
        #expect(nonsense.status == 2, "\(nonsense)")
        #expect(try place.must("key", "list").split(separator: "\n").count == 1)
    }

    // MARK: Certificates

    /// Revocation as a real responder tells it.
    @Test func revokedCertificatesAreRefused() throws {
        let place = try place()
        let folder = place.scratch.path
        let port = 20_000 + Int.random(in: 0..<10_000)
        func openssl(_ words: String...) throws { try Run.program("/usr/bin/openssl", words, in: folder).ok() }
        try openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=CA",
            "-addext",
            "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        try place.scratch.write(
            "ext",
            Array(
                "[leaf]\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:\(port)\n"
                    .utf8))
        var index = ""
        for (name, state) in [("good", "V\t301231235959Z\t\t"), ("bad", "R\t301231235959Z\t260101000000Z\t")] {
            try openssl(
                "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "\(name).key", "-out",
                "\(name).csr",
                "-subj", "/CN=\(name)")
            try openssl(
                "x509", "-req", "-in", "\(name).csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "\(name).pem",
                "-days", "2",
                "-extfile", "ext", "-extensions", "leaf")
            let serial = try Run.program("/usr/bin/openssl", ["x509", "-in", "\(name).pem", "-noout", "-serial"], in: folder).output
            index += "\(state)\(serial.trimmingCharacters(in: .whitespacesAndNewlines).dropFirst("serial=".count))\tunknown\t/CN=\(name)\n"
            try Run.program("/bin/chmod", ["a+r", "\(name).key"], in: folder).ok()
            try copy("tiny.sif", to: "\(name).sif", place)
            try place.must("sign", "--key", "\(name).key", "\(name).sif")
            try place.must("verify", "--certificate", "\(name).pem", "--certificate-roots", "ca.pem", "\(name).sif")
        }
        try place.scratch.write("index", Array(index.utf8))
        let responder = try Run.start(
            "/usr/bin/openssl",
            ["ocsp", "-index", "index", "-port", "\(port)", "-rsigner", "ca.pem", "-rkey", "ca.key", "-CA", "ca.pem", "-ndays", "1"],
            in: folder)
        func verify(_ name: String) throws -> Run {
            try place.run("verify", "--ocsp-verify", "--certificate", "\(name).pem", "--certificate-roots", "ca.pem", "\(name).sif")
        }
        var good: Run?
        let answers = Wait.until(10) {
            good = try? verify("good")
            return good?.status == 0
        }
        #expect(answers, "\(good?.description ?? "")")
        let bad = try verify("bad")
        #expect(bad.status == 255 && bad.error.contains("x509: certificate has been revoked"), "\(bad)")
        kill(responder.identifier, SIGKILL)
        _ = responder.finish()
        // No answer is no proof.
        let silent = try verify("good")
        #expect(silent.status == 255 && silent.error.contains("gives no answer"), "\(silent)")
    }
}

extension Run {
    /// Requires that it has succeeded.
    func ok(sourceLocation: SourceLocation = #_sourceLocation) throws {
        try #require(status == 0, "\(self)", sourceLocation: sourceLocation)
    }
}
