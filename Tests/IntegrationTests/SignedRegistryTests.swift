import Foundation
import Testing

/// Bases in registries that certain keys must have signed, with signatures that skopeo has made.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct SignedRegistryTests {
    private let place: Place
    private let home: String

    init() throws {
        place = try Place("SignedRegistry", as: .ordinaryUser)
        home = place.scratch.file("home")
        try sh(
            """
            mkdir -p home/.config/containers/registries.d signatures
            mkdir -m 700 gnupg
            for name in one two; do
                gpg --batch --quiet --passphrase '' --quick-gen-key "$name <$name@example.org>" rsa2048 sign never
                gpg --batch --quiet --export "$name" > $name.public
                gpg --batch --quiet --list-keys --with-colons "$name" | awk -F: '/^fpr/ { print $10; exit }' > $name.fpr
            done
            """
        ).ok()
        try keep("file://\(place.scratch.file("signatures"))")
        try place.must("key", "import", "one.public")
    }

    private func done() { _ = try? sh("gpgconf --kill all") }

    private func sh(_ script: String) throws -> Run {
        try Run.program(
            "/bin/sh", ["-ec", script], as: .ordinaryUser, environment: ["GNUPGHOME": place.scratch.file("gnupg"), "HOME": home],
            in: place.scratch.path)
    }

    /// Says where signatures are.
    private func keep(_ address: String) throws {
        let text = """
            default-docker:
              lookaside: file:///nonexistent
            docker:
              \(Site.registry):
                lookaside: \(address)
                lookaside-staging: file://\(place.scratch.file("signatures"))
            """
        try sh("cat > home/.config/containers/registries.d/test.yaml <<'END'\n\(text)\nEND\n").ok()
    }

    /// Copies the image to another name of the registry, and signs it there.
    private func sign(_ name: String, by key: String, of source: String = "debian:latest") throws {
        try sh(
            "skopeo --registries.d home/.config/containers/registries.d copy --quiet --src-tls-verify=false --dest-tls-verify=false --sign-by $(cat \(key).fpr) docker://\(Site.registry)/\(source) docker://\(Site.registry)/\(name)"
        ).ok()
    }

    private func fingerprint(_ key: String) throws -> String {
        try String(contentsOfFile: place.scratch.file("\(key).fpr"), encoding: .utf8).trimmingCharacters(in: .newlines)
    }

    private func build(_ name: String, _ keys: String...) throws -> Run {
        let prints = try keys.map(fingerprint).joined(separator: ", ")
        try place.scratch.write(
            "a.def", Array("Bootstrap: docker\nFrom: \(Site.registry)/\(name)\nFingerprints: \(prints)\n%environment\nexport A=1\n".utf8))
        return try place.run("build", "-F", "a.sif", "a.def", environment: ["HOME": home])
    }

    @Test func whatTheKeysHaveSignedIsBuiltOn() throws {
        defer { done() }
        try sign("signed:one", by: "one")
        let built = try build("signed:one", "one")
        #expect(built.status == 0 && built.error.contains("The base is signed by"), "\(built)")
        #expect(try place.must("exec", "a.sif", "sh", "-c", "echo $A; cat /etc/debian_version").hasPrefix("1\n"))
        // By its digest as well.
        let digest = try sh("skopeo inspect --tls-verify=false --format '{{ .Digest }}' docker://\(Site.registry)/signed:one")
            .output.trimmingCharacters(in: .newlines)
        #expect(try build("signed@\(digest)", "one").status == 0)
        // Two signatures; one key is not known here yet.
        try sign("signed:one", by: "two", of: "signed:one")
        let unknown = try build("signed:one", "one", "two")
        let second = try fingerprint("two")
        #expect(unknown.status == 255 && unknown.error.contains(second), "\(unknown)")
        try place.must("key", "import", "two.public")
        #expect(try build("signed:one", "one", "two").status == 0)
        // Over the web.
        let server = try Run.start(
            "/usr/bin/python3", ["-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", place.scratch.file("signatures"), "0"],
            as: .ordinaryUser, environment: [:], in: place.scratch.path)
        defer {
            Foundation.kill(server.identifier, SIGKILL)
            _ = server.finish()
        }
        #expect(server.waitFor("port "))
        let port = try #require(server.printed().components(separatedBy: "port ").last?.prefix { $0.isNumber })
        try keep("http://127.0.0.1:\(port)")
        #expect(try build("signed:one", "one", "two").status == 0)
    }

    @Test func anythingElseIsRefused() throws {
        defer { done() }
        try sign("refused:one", by: "one")
        func refusal(_ name: String, _ key: String) throws -> String {
            let built = try build(name, key)
            #expect(built.status == 255 && !place.scratch.names.contains("a.sif"), "\(built)")
            return built.error
        }
        // Unsigned; signed under another name; by another key.
        #expect(try refusal("debian:latest", "one").contains("is not signed by"))
        try sh(
            "skopeo copy --quiet --src-tls-verify=false --dest-tls-verify=false docker://\(Site.registry)/debian:latest docker://\(Site.registry)/refused:two"
        ).ok()
        #expect(try refusal("refused:two", "one").contains("a signature is for the name \(Site.registry)/refused:one"))
        try place.must("key", "import", "two.public")
        #expect(try refusal("refused:one", "two").contains("is not signed by"))
        // Damaged, and what is no signature.
        let file = try sh("find signatures -name signature-1").output.trimmingCharacters(in: .newlines)
        let good = try Data(contentsOf: URL(filePath: place.scratch.file(file)))
        for bad in [good.prefix(good.count / 2), Data("{}".utf8), Data(), good.dropLast() + [good[good.count - 1] ^ 1]] {
            try sh("chmod u+w \(file); printf '' > \(file); chmod a+w \(file)").ok()
            try bad.write(to: URL(filePath: place.scratch.file(file)))
            #expect(try refusal("refused:one", "one").contains("is not signed by"))
        }
        // Somebody has put another image in the place of the one that was signed.
        try good.write(to: URL(filePath: place.scratch.file(file)))
        try sh(
            """
            mkdir empty; tar -cf layer.tar empty
            umoci init --layout other; umoci new --image other:latest; umoci raw add-layer --image other:latest layer.tar
            skopeo copy --quiet --dest-tls-verify=false oci:other:latest docker://\(Site.registry)/refused:one
            """
        ).ok()
        #expect(try refusal("refused:one", "one").contains("is not signed by"))
        // A configuration that makes no sense is no reason to trust.
        try sh("echo 'docker: [' > home/.config/containers/registries.d/test.yaml").ok()
        #expect(try refusal("refused:one", "one").contains("test.yaml is not valid"))
    }
}
