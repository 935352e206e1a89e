import Foundation
import Testing

/// Where images come from and with whose name: registries.conf and the helpers of Docker's configuration.
@Suite(.enabled(if: Site.isPrepared, "needs scripts/test.sh"))
struct RegistrySettingsTests {
    /// A registry with an image, and one without, which the mirrors stand for.
    private struct Registries {
        let scratch: Scratch
        let full: FakeRegistry
        let empty: FakeRegistry
        let digest: String

        init(_ name: String) throws {
            scratch = try Scratch(name)
            full = try FakeRegistry()
            empty = try FakeRegistry()
            digest = try full.add(layers: [try SmallImage.base().finished])
        }

        func stop() {
            full.stop()
            empty.stop()
        }

        /// Pulls with a registries.conf in the user's home.
        func pull(_ name: String, _ configuration: String, in folder: String = ".config/containers", file: String = "registries.conf")
            throws
            -> Run
        {
            let path = scratch.file(folder)
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try configuration.write(toFile: "\(path)/\(file)", atomically: true, encoding: .utf8)
            return try fetch(name)
        }

        func fetch(_ name: String, environment: [String: String] = [:]) throws -> Run {
            var variables = ["HOME": scratch.path, "SINGULARITY_CACHEDIR": scratch.file("cache-\(UInt32.random(in: 0 ... .max))")]
            variables.merge(environment) { _, new in new }
            return try Run.program(
                Site.program, ["pull", "--force", scratch.file("out.sif"), "docker://\(name)"], as: .ordinaryUser, environment: variables)
        }
    }

    private func with(_ body: (Registries) throws -> Void, name: String = #function) throws {
        let registries = try Registries(name)
        defer { registries.stop() }
        try body(registries)
    }

    /// A rule of registries.conf, all of which speak http.
    private func rule(_ prefix: String, at location: String, mirrors: [String] = [], more: String = "") -> String {
        let places = ["[[registry]]\nprefix = \"\(prefix)\"\n\(more)location = \"\(location)\""]
        return (places + mirrors.map { "[[registry.mirror]]\nlocation = \"\($0)\"" }).map { $0 + "\ninsecure = true\n" }.joined()
    }

    @Test func aMirrorIsAskedFirst() throws {
        try with { site in
            let rule = rule("registry.invalid/team", at: site.empty.address, mirrors: [site.full.address])
            let result = try site.pull("registry.invalid/team/image", rule)
            #expect(result.status == 0, "\(result)")
            #expect(site.empty.requests.isEmpty && !site.full.requests.isEmpty)
        }
    }

    @Test func whereAMirrorFailsTheRegistryItselfIsAsked() throws {
        try with { site in
            let rule = rule("registry.invalid/team", at: site.full.address, mirrors: [site.empty.address, "127.0.0.1:1"])
            let result = try site.pull("registry.invalid/team/image:latest", rule)
            #expect(result.status == 0, "\(result)")
            #expect(!site.empty.requests.isEmpty)
        }
    }

    @Test func aBlockedRegistryIsNotAsked() throws {
        try with { site in
            let rule = "[[registry]]\nlocation = \"\(site.full.address)\"\nblocked = true\n"
            let result = try site.pull("\(site.full.address)/image", rule)
            #expect(result.status == 255, "\(result)")
            #expect(result.error.contains("registries.conf blocks its registry"), "\(result)")
            #expect(site.full.requests.isEmpty)
        }
    }

    @Test func theLongestPrefixDecidesAndFoldersAddRules() throws {
        try with { site in
            let blocking = "[[registry]]\nprefix = \"*.invalid\"\nblocked = true\n"
            let blocked = try site.pull("one.invalid/image", blocking)
            #expect(blocked.status == 255 && blocked.error.contains("blocks"), "\(blocked)")
            let more = rule("one.invalid/image", at: site.full.address + "/image")
            let found = try site.pull("one.invalid/image", more, in: ".config/containers/registries.conf.d", file: "10-one.conf")
            #expect(found.status == 0, "\(found)")
            let other = try site.fetch("two.invalid/image")
            #expect(other.status == 255, "\(other)")
        }
    }

    @Test func aMirrorForDigestsIsNotAskedForTags() throws {
        try with { site in
            let rule = rule(
                "registry.invalid", at: site.full.address, mirrors: [site.empty.address], more: "mirror-by-digest-only = true\n")
            let tagged = try site.pull("registry.invalid/image:latest", rule)
            #expect(tagged.status == 0, "\(tagged)")
            #expect(site.empty.requests.isEmpty)
            let pinned = try site.fetch("registry.invalid/image@\(site.digest)")
            #expect(pinned.status == 0, "\(pinned)")
            #expect(!site.empty.requests.isEmpty)
        }
    }

    @Test func aConfigurationThatIsNoneIsNamed() throws {
        try with { site in
            let result = try site.pull("\(site.full.address)/image", "[[registry]\n")
            #expect(result.status == 255 && result.error.contains("registries.conf is not valid"), "\(result)")
        }
    }

    // MARK: Credentials

    /// Has a registry ask for a name, and installs a helper that answers.
    private func helper(_ site: Registries, _ script: String) throws -> [String: String] {
        site.full.answer { request in
            request.headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
                ? nil : FakeRegistry.Response(status: 401, headers: ["WWW-Authenticate": "Basic realm=\"x\""])
        }
        let docker = site.scratch.file("docker")
        try FileManager.default.createDirectory(atPath: docker, withIntermediateDirectories: true)
        let configuration = #"{"credHelpers":{"\#(site.full.address)":"ours"}}"#
        try configuration.write(toFile: docker + "/config.json", atomically: true, encoding: .utf8)
        let program = docker + "/docker-credential-ours"
        try ("#!/bin/sh\n" + script).write(toFile: program, atomically: true, encoding: .utf8)
        chmod(program, 0o755)
        return ["DOCKER_CONFIG": docker, "PATH": "\(docker):/usr/bin:/bin"]
    }

    @Test func aHelperGivesTheName() throws {
        try with { site in
            let script = """
                [ "$1" = get ] || exit 1
                read -r server
                [ "$server" = "\(site.full.address)" ] || { echo "credentials not found in native keychain"; exit 1; }
                echo '{"ServerURL":"x","Username":"user","Secret":"secret"}'
                """
            let result = try site.fetch("\(site.full.address)/image", environment: try helper(site, script))
            #expect(result.status == 0, "\(result)")
            #expect(!result.error.contains("secret"))
        }
    }

    @Test func aHelperThatKnowsNothingIsNoError() throws {
        try with { site in
            let result = try site.fetch(
                "\(site.full.address)/image", environment: try helper(site, "echo 'credentials not found in native keychain'; exit 1"))
            // The registry wants a name nevertheless.
            #expect(result.status == 255 && result.error.contains("log in"), "\(result)")
        }
    }

    @Test(arguments: [
        ("echo 'the keychain is locked'; exit 1", "docker-credential-ours failed: the keychain is locked"),
        ("echo '<html>'", "docker-credential-ours gave an answer that is not JSON"),
    ]) func aHelperThatFailsIsNamed(_ script: String, _ text: String) throws {
        try with { site in
            let result = try site.fetch("\(site.full.address)/image", environment: try helper(site, script))
            #expect(result.status == 255 && result.error.contains(text), "\(result)")
        }
    }

    @Test func whatPodmanHasLeftIsFound() throws {
        try with { site in
            _ = try helper(site, "")
            let folder = site.scratch.file(".config/containers")
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let entry = #"{"auths":{"\#(site.full.address)":{"auth":"dXNlcjpzZWNyZXQ="}}}"#
            try entry.write(toFile: folder + "/auth.json", atomically: true, encoding: .utf8)
            let result = try site.fetch("\(site.full.address)/image")
            #expect(result.status == 0, "\(result)")
        }
    }

    @Test func aHelperThatIsMissingIsNamed() throws {
        try with { site in
            var environment = try helper(site, "")
            environment["PATH"] = "/usr/bin:/bin"
            let result = try site.fetch("\(site.full.address)/image", environment: environment)
            #expect(result.status == 255 && result.error.contains("docker-credential-ours could not be run"), "\(result)")
        }
    }
}
