import Foundation
import Testing

/// Images into registries: a real one, and one whose connections break and that wants a login.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct PushTests {
    private let place: Place

    init() throws { place = try Place("push") }

    private func must(_ words: String..., environment: [String: String] = [:]) throws -> Run {
        let run = try place.run(words, environment: environment)
        try #require(run.status == 0, "\(words): \(run)")
        return run
    }

    @Test func aSIFComesBackAsItIs() throws {
        let image = try Recipe.busybox.get()
        let address = "oras://\(Site.registry)/push/file:1"
        let pushed = try must("push", image, address)
        #expect(pushed.error.contains("Digest: sha256:") && pushed.error.contains("Upload complete"))
        _ = try must("pull", "back.sif", address)
        #expect(FileManager.default.contentsEqual(atPath: image, andPath: place.scratch.file("back.sif")))
        // The same file is the same artifact, for this program and for the peers.
        #expect(try must("push", image, address).error == pushed.error)
        let fetch = """
            curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' http://\(Site.registry)/v2/push/file/manifests/
            """
        func manifest(_ tag: String) throws -> String { try Run.program("/bin/sh", ["-c", fetch + tag]).output }
        let plain = try manifest("1")
        #expect(plain.contains(#""config":{"mediaType":"application/vnd.sylabs.sif.config.v1+json","size":2,"#), "\(plain)")
        #expect(plain.hasSuffix(#""annotations":{"org.opencontainers.image.title":"busybox.sif"}}]}"#), "\(plain)")
        _ = try must(
            "push", "-D", "for tests", "--annotation", "b=2=3", "--annotation", "a=1", image, "oras://\(Site.registry)/push/file:noted")
        #expect(
            try manifest("noted").hasSuffix(#""annotations":{"a":"1","b":"2=3","org.opencontainers.image.description":"for tests"}}"#))
    }

    /// As an image of layers, that other programs read, and of a directory too.
    @Test func layersAreReadByOthers() throws {
        let image = try Recipe.busybox.get()
        _ = try must("build", "--sandbox", "box", image)
        for (source, name) in [(image, "one"), ("box", "two")] {
            let address = "docker://\(Site.registry)/push/\(name):v"
            let pushed = try must("push", source, address)
            #expect(try must("exec", address, "echo", "runs").output == "runs\n")
            let seen = try Run.program(
                "/usr/bin/skopeo", ["inspect", "--tls-verify=false", "--format", "{{.Digest}} {{len .Layers}}", address])
            let digest = try #require(pushed.error.firstRange(of: /sha256:[0-9a-f]{64}/).map { String(pushed.error[$0]) })
            #expect(seen.output == "\(digest) 1\n", "\(seen)")
            // What is in it, as artifacts that refer to it: this registry keeps no list of them but the tag.
            let tag = digest.replacingOccurrences(of: ":", with: "-")
            let list = try Run.program(
                "/bin/sh",
                [
                    "-c",
                    "curl -sf -H 'Accept: application/vnd.oci.image.index.v1+json' http://\(Site.registry)/v2/push/\(name)/manifests/\(tag)",
                ]
            ).output
            #expect(list.contains("application/spdx+json") && list.contains("application/vnd.cyclonedx+json"), "\(list)")
            // Again, with nothing new.
            #expect(try must("push", source, address).error.contains(digest))
        }
        #expect(try Run.program("/bin/sh", ["-c", "ls -d /tmp/singularity-push-* /var/tmp/singularity-push-*"]).output.isEmpty)
    }

    // MARK: Logins and broken connections

    private final class UploadRegistry {
        let live: Run.Live
        let folder: Scratch
        let address: String

        init(_ settings: [String: String]) throws {
            folder = try Scratch("uploads")
            for (name, value) in settings { try folder.write(name, Array(value.utf8)) }
            live = try Run.start("/usr/bin/python3", ["\(Site.fixtures)/upload-registry.py", folder.path], as: .ordinaryUser)
            guard Wait.until(10, { [live] in live.printed().contains("\n") }) else { throw CocoaError(.fileReadUnknown) }
            address = "127.0.0.1:" + live.printed().trimmingCharacters(in: .newlines)
        }

        deinit { kill(live.identifier, SIGKILL) }

        var log: [String] {
            ((try? String(contentsOfFile: folder.file("log"), encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
        }
    }

    @Test(arguments: ["basic", "token"])
    func aLoginIsKeptTriedAndForgotten(scheme: String) throws {
        let registry = try UploadRegistry(["scheme": scheme])
        let image = try Recipe.busybox.get()
        let address = "oras://\(registry.address)/lab/app:1"
        let refused = try place.run("push", image, address)
        #expect(refused.status == 255 && refused.error.contains("was refused"), "\(refused)")
        func login(_ password: String) throws -> Run {
            try Run.program(
                Site.program, ["registry", "login", "-u", "me", "--password-stdin", "docker://" + registry.address], as: .ordinaryUser,
                environment: ["SINGULARITY_CONFIGDIR": place.scratch.file("conf"), "HOME": place.scratch.path], input: password + "\n")
        }
        let wrong = try login("wrong")
        #expect(wrong.status == 255 && wrong.error.contains("access to \(registry.address) was refused"), "\(wrong)")
        #expect(try login("secret").status == 0)
        let file = place.scratch.file("conf/docker-config.json")
        var status = stat()
        #expect(stat(file, &status) == 0 && status.st_mode & 0o777 == 0o600)
        let home = ["HOME": place.scratch.path]
        #expect(try must("registry", "list", environment: home).output.contains("docker://\(registry.address)"))
        _ = try must("push", image, address, environment: home)
        _ = try must("registry", "logout", registry.address, environment: home)
        #expect(try place.run("registry", "logout", registry.address, environment: home).error.contains("nobody is logged in"))
        #expect(try place.run("push", image, address, environment: home).status == 255)
    }

    /// A file of another program keeps what else is in it.
    @Test func aLoginChangesNothingElse() throws {
        let registry = try UploadRegistry([:])
        let file = try place.scratch.write(
            "auth.json", Array(#"{"credHelpers": {"a.example": "pass"}, "auths": {"b.example": {"auth": "eDp5"}}, "n": 3}"#.utf8))
        chmod(place.scratch.path, 0o777)
        chmod(file, 0o666)
        func run(_ words: String...) throws -> Run {
            try Run.program(Site.program, words, as: .ordinaryUser, environment: ["SINGULARITY_LOGIN_PASSWORD": "secret"])
        }
        #expect(try run("registry", "login", "-u", "me", "--authfile", file, registry.address).status == 0)
        #expect(try run("push", "--authfile", file, Recipe.busybox.get(), "oras://\(registry.address)/a/b").status == 0)
        #expect(try run("registry", "logout", "--authfile", file, registry.address).status == 0)
        let text = try String(contentsOfFile: file, encoding: .utf8)
        let tree = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? NSDictionary)
        #expect(tree == ["credHelpers": ["a.example": "pass"], "auths": ["b.example": ["auth": "eDp5"]], "n": 3], "\(text)")
        try Data("{".utf8).write(to: URL(filePath: file))
        let broken = try run("registry", "login", "-u", "me", "--authfile", file, registry.address)
        #expect(broken.status == 255 && broken.error.contains("is not valid JSON"), "\(broken)")
        #expect(try String(contentsOfFile: file, encoding: .utf8) == "{")
    }

    @Test func whatHasArrivedIsNotSentAgain() throws {
        let registry = try UploadRegistry(["break": "500000"])
        let login = ["SINGULARITY_DOCKER_USERNAME": "me", "SINGULARITY_DOCKER_PASSWORD": "secret"]
        let image = try Recipe.busybox.get()
        _ = try must("push", image, "oras://\(registry.address)/lab/app", environment: login)
        let ranges = registry.log.filter { $0.hasPrefix("PATCH") && $0.split(separator: " ").count == 3 }
        #expect(ranges.count == 1 && ranges[0].contains(" 500000-"), "\(registry.log)")
        let digest = try #require(
            registry.folder.names.first {
                $0.hasPrefix("sha256:") && $0 != "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
            })
        #expect(FileManager.default.contentsEqual(atPath: image, andPath: registry.folder.file(digest)) || registry.folder.names.count > 3)
        // The manifest comes last, and a second push sends no blob.
        #expect(registry.log.last?.hasPrefix("PUT /v2/lab/app/manifests/latest") == true)
        let before = registry.log.count
        _ = try must("push", image, "oras://\(registry.address)/lab/app", environment: login)
        #expect(!registry.log[before...].contains { $0.hasPrefix("PATCH") })
    }

    @Test func whatCannotBePushedIsNamed() throws {
        let image = try Recipe.busybox.get()
        _ = try must("build", "--sandbox", "box", image)
        try place.scratch.write("text", Array("no image".utf8))
        for (words, text) in [
            ([image, "library://a/b/c"], "container libraries"), ([image, "http://a/b"], "is no address to push to"),
            (["nothing.sif", "oras://a.example/b"], "nothing.sif does not exist"), (["box", "oras://a.example/b"], "box is a directory"),
            (["text", "oras://a.example/b"], "text"), ([image, "oras://127.0.0.1:1/b"], "127.0.0.1:1: connection refused"),
            ([image, "docker://127.0.0.1:1/b"], "127.0.0.1:1: connection refused"),
            ([image, "docker://a.example/B"], "repository name must be lowercase"),
            ([image, "oras://a.example/b@sha256:\(String(repeating: "0", count: 64))"], "name a tag to push to"),
            (["-D", "x", image, "docker://a.example/b"], "are for oras://"),
            (["--annotation", "x", image, "oras://a.example/b"], "give NAME=value"),
        ] {
            let run = try place.run(["push"] + words)
            #expect(run.status == 255 && run.error.contains(text), "\(words): \(run)")
        }
    }
}
