import Foundation
import Testing

/// Registries and layers that are wrong: a clear error, status 255, and nothing left of the image.
@Suite(.enabled(if: Site.isPrepared, "needs scripts/test.sh"))
struct BadRegistryTests {
    /// Builds from a registry that a test has prepared; checks that nothing is left where it fails.
    private func build(
        _ registry: FakeRegistry, _ name: String = "image:latest", in scratch: Scratch, _ options: [String] = [],
        environment: [String: String] = [:]
    ) throws -> Run {
        var variables = ["SINGULARITY_CACHEDIR": scratch.file("cache"), "HOME": scratch.path]
        variables.merge(environment) { _, new in new }
        return try Run.program(
            Site.program, ["build"] + options + [scratch.file("out.sif"), "docker://\(registry.address)/\(name)"], as: .ordinaryUser,
            environment: variables)
    }

    private func expectRefusal(_ result: Run, _ text: String, _ scratch: Scratch, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(result.status == 255, "\(result)", sourceLocation: sourceLocation)
        #expect(result.error.contains(text), "\(result.error)", sourceLocation: sourceLocation)
        #expect(result.error.contains("FATAL:"), sourceLocation: sourceLocation)
        #expect(scratch.names.filter { $0 != "cache" } == [], sourceLocation: sourceLocation)
        let leases = (try? FileManager.default.contentsOfDirectory(atPath: scratch.file("cache/cache/blob/leases"))) ?? []
        #expect(leases.filter { $0.hasSuffix(".lease") } == [], sourceLocation: sourceLocation)
    }

    private func withRegistry(_ body: (FakeRegistry, Scratch) throws -> Void, name: String = #function) throws {
        let registry = try FakeRegistry()
        defer { registry.stop() }
        try body(registry, try Scratch(name))
    }

    // MARK: The registry

    @Test func anImageThatIsNotThereIsNamed() throws {
        try withRegistry { registry, scratch in
            expectRefusal(try build(registry, "image:absent", in: scratch), "image:absent", scratch)
        }
    }

    @Test func aRegistryThatDoesNotAnswerIsNamed() throws {
        let scratch = try Scratch()
        let result = try Run.singularity(
            "build", scratch.file("out.sif"), "docker://127.0.0.1:1/image:latest",
            environment: ["SINGULARITY_CACHEDIR": scratch.file("cache")])
        expectRefusal(result, "127.0.0.1:1", scratch)
    }

    @Test func aLayerWithAnotherDigestIsRefused() throws {
        try withRegistry { registry, scratch in
            let layer = try SmallImage.base().finished
            try registry.add(layers: [layer])
            let path = "/v2/image/blobs/\(FakeRegistry.digest(layer))"
            registry.answer { request in
                guard request.path == path else { return nil }
                var wrong = layer
                wrong[2000] ^= 1
                return FakeRegistry.Response(body: wrong)
            }
            expectRefusal(try build(registry, in: scratch), "digest", scratch)
            #expect(
                !FileManager.default.fileExists(
                    atPath: scratch.file("cache/cache/blob/blobs/sha256/\(FakeRegistry.digest(layer).dropFirst(7))")))
        }
    }

    @Test func aManifestWithAnotherDigestIsRefused() throws {
        try withRegistry { registry, scratch in
            let digest = try registry.add(layers: [try SmallImage.base().finished])
            registry.answer { request in
                request.path.contains("/manifests/")
                    ? FakeRegistry.Response(headers: ["Content-Type": "application/vnd.oci.image.manifest.v1+json"], body: Array("{}".utf8))
                    : nil
            }
            expectRefusal(try build(registry, "image@\(digest)", in: scratch), "digest", scratch)
        }
    }

    @Test func aBrokenConnectionIsGoneOnWithWhereItBroke() throws {
        try withRegistry { registry, scratch in
            let layer = try SmallImage.base().finished
            try registry.add(layers: [layer])
            let count = Counter()
            registry.answer { request in
                guard request.path.hasSuffix(FakeRegistry.digest(layer)) else { return nil }
                guard count.next() <= 2 else { return nil }
                var response = registry.standardRange(request, layer)
                response.breaksAfter = 100_000
                return response
            }
            let result = try build(registry, in: scratch)
            #expect(result.status == 0, "\(result)")
            let ranges = registry.requests.compactMap { $0.headers["range"] }
            // A broken connection may swallow bytes that were on their way, never those that had arrived.
            let starts = ranges.compactMap { Int($0.dropFirst(6).dropLast()) }
            #expect(starts.count == 2 && starts.allSatisfy { $0 > 0 } && starts == starts.sorted(), "\(ranges)")
        }
    }

    @Test func aConnectionThatBreaksForEverIsReported() throws {
        try withRegistry { registry, scratch in
            let layer = try SmallImage.base().finished
            try registry.add(layers: [layer])
            registry.answer { request in
                request.path.hasSuffix(FakeRegistry.digest(layer)) ? FakeRegistry.Response(body: layer, breaksAfter: 0) : nil
            }
            expectRefusal(try build(registry, in: scratch), registry.address, scratch)
        }
    }

    @Test func aWrongMediaTypeIsNamed() throws {
        try withRegistry { registry, scratch in
            try registry.add(layers: [[1, 2, 3]], mediaType: "application/vnd.example.model.v1")
            expectRefusal(try build(registry, in: scratch), "application/vnd.example.model.v1", scratch)
        }
    }

    @Test func aManifestThatIsNoJSONIsRefused() throws {
        try withRegistry { registry, scratch in
            registry.add(manifest: Array("<html>".utf8), type: "application/vnd.oci.image.manifest.v1+json", tag: "latest")
            expectRefusal(try build(registry, in: scratch), "manifest of", scratch)
        }
    }

    @Test func aLayerThatIsLongerThanItsDescriptorIsRefused() throws {
        try withRegistry { registry, scratch in
            try registry.add(layers: [try SmallImage.base().finished], size: 1000)
            expectRefusal(try build(registry, in: scratch), "1000", scratch)
        }
    }

    @Test func tooManyRequestsAreWaitedFor() throws {
        try withRegistry { registry, scratch in
            try registry.add(layers: [try SmallImage.base().finished])
            let count = Counter()
            registry.answer { request in
                request.path.contains("/manifests/") && count.next() == 1
                    ? FakeRegistry.Response(status: 429, headers: ["Retry-After": "1"]) : nil
            }
            let start = Date()
            #expect(try build(registry, in: scratch).status == 0)
            #expect(Date().timeIntervalSince(start) >= 1)
        }
    }

    /// Some registries name the time instead (RFC 9110 10.2.3).
    @Test func aTimeToComeBackIsWaitedFor() throws {
        try withRegistry { registry, scratch in
            try registry.add(layers: [try SmallImage.base().finished])
            let count = Counter()
            let end = Date(timeIntervalSince1970: (Date().timeIntervalSince1970 + 5).rounded(.down))
            let text = try Run.program("/bin/date", ["-u", "-R", "-d", "@\(Int(end.timeIntervalSince1970))"]).output
                .replacing("+0000\n", with: "GMT")
            registry.answer { request in
                request.path.contains("/manifests/") && count.next() == 1
                    ? FakeRegistry.Response(status: 429, headers: ["Retry-After": text]) : nil
            }
            #expect(try build(registry, in: scratch).status == 0)
            #expect(Date() >= end)
        }
    }

    /// What one process was told, the others of the user know.
    @Test func aLimitIsMetOnceForAll() throws {
        try withRegistry { registry, scratch in
            try registry.add(layers: [try SmallImage.base().finished])
            let count = Counter()
            registry.answer { request in
                request.path.contains("/manifests/") && count.next() == 1
                    ? FakeRegistry.Response(status: 429, headers: ["Retry-After": "3"]) : nil
            }
            func start(_ name: String) throws -> Run.Live {
                try Run.start(
                    Site.program, ["pull", scratch.file(name), "docker://\(registry.address)/image:latest"],
                    as: .ordinaryUser, environment: ["SINGULARITY_CACHEDIR": scratch.file("cache"), "HOME": scratch.path])
            }
            let first = try start("first.sif")
            #expect(Wait.until(10) { !registry.requests.filter { $0.path.contains("/manifests/") }.isEmpty })
            usleep(300_000)
            let others = try (0..<6).map { try start("other\($0).sif") }
            usleep(1_000_000)
            // Nobody has asked again.
            #expect(registry.requests.filter { $0.path.contains("/manifests/") }.count == 1)
            for one in [first] + others { #expect(one.finish().status == 0) }
        }
    }

    /// A note that makes no sense, or is of a clock that was wrong, stops nobody.
    @Test(arguments: ["", "x", "99999999999999", "-1"]) func brokenNotesOfLimitsAreIgnored(_ text: String) throws {
        try withRegistry { registry, scratch in
            try registry.add(layers: [try SmallImage.base().finished])
            try FileManager.default.createDirectory(atPath: scratch.file("cache/limits"), withIntermediateDirectories: true)
            try scratch.write("cache/limits/\(registry.address)", Array(text.utf8))
            _ = try Run.program("/bin/chmod", ["-R", "a+rwX", scratch.file("cache")])
            let start = Date()
            #expect(try build(registry, in: scratch).status == 0)
            #expect(Date().timeIntervalSince(start) < 20)
        }
    }

    @Test func credentialsDoNotFollowARedirectToAnotherHost() throws {
        try withRegistry { registry, scratch in
            let other = try FakeRegistry()
            defer { other.stop() }
            let layer = try SmallImage.base().finished
            try registry.add(layers: [layer])
            other.add(blob: layer)
            let path = "/v2/image/blobs/\(FakeRegistry.digest(layer))"
            let target = "http://localhost:\(other.port)\(path)"
            registry.answer { request in
                if request.headers["authorization"] == nil {
                    return FakeRegistry.Response(status: 401, headers: ["WWW-Authenticate": "Basic realm=\"x\""])
                }
                return request.path == path ? FakeRegistry.Response(status: 307, headers: ["Location": target]) : nil
            }
            let result = try build(
                registry, in: scratch, environment: ["SINGULARITY_DOCKER_USERNAME": "user", "SINGULARITY_DOCKER_PASSWORD": "secret"])
            #expect(result.status == 0, "\(result)")
            #expect(!other.requests.isEmpty)
            #expect(other.requests.allSatisfy { $0.headers["authorization"] == nil })
            #expect(!result.error.contains("secret"))
        }
    }

    @Test func aTokenIsFetchedWhereTheRegistryAsksForOne() throws {
        try withRegistry { registry, scratch in
            try registry.add(layers: [try SmallImage.base().finished])
            let realm = "http://\(registry.address)/token"
            registry.answer { request in
                if request.path.hasPrefix("/token") {
                    let isRight = request.path.contains("scope=repository") && request.headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
                    return isRight ? FakeRegistry.Response(body: Array(#"{"token":"T0K"}"#.utf8)) : FakeRegistry.Response(status: 401)
                }
                return request.headers["authorization"] == "Bearer T0K"
                    ? nil
                    : FakeRegistry.Response(
                        status: 401,
                        headers: ["WWW-Authenticate": "Bearer realm=\"\(realm)\",service=\"s\",scope=\"repository:image:pull\""])
            }
            try FileManager.default.createDirectory(atPath: scratch.file("docker"), withIntermediateDirectories: true)
            let file = try scratch.write(
                "auth.json", Array(#"{"auths":{"\#(registry.address)":{"auth":"dXNlcjpzZWNyZXQ="}}}"#.utf8))
            let result = try build(registry, in: scratch, ["--authfile", file])
            #expect(result.status == 0, "\(result)")
        }
    }

    // MARK: Layers

    private func expectLayerRefusal(_ text: String, name: String = #function, _ fill: (inout Tar) -> Void) throws {
        try withRegistry(
            { registry, scratch in
                var tar = try SmallImage.base()
                fill(&tar)
                try registry.add(layers: [tar.finished])
                let outside = scratch.file("../escaped-\(UInt32.random(in: 0 ... .max))")
                expectRefusal(try build(registry, in: scratch), text, scratch)
                #expect(!FileManager.default.fileExists(atPath: outside))
            }, name: name)
    }

    @Test func namesThatLeaveTheTreeAreRefused() throws { try expectLayerRefusal("../../escape") { $0.add("../../escape", content: [1]) } }

    @Test func namesThatLeaveTheTreeInTheMiddleAreRefused() throws {
        try expectLayerRefusal("etc/../../escape") { $0.add("etc/../../escape", content: [1]) }
    }

    @Test func absoluteNamesAreRefused() throws { try expectLayerRefusal("/etc/escape") { $0.add("/etc/escape", content: [1]) } }

    @Test func hardLinksOutOfTheTreeAreRefused() throws {
        try expectLayerRefusal("../../etc/passwd") { $0.add("link", .hardLink, link: "../../etc/passwd") }
    }

    @Test func hardLinksToNothingAreRefused() throws {
        try expectLayerRefusal("no/such/file") { $0.add("link", .hardLink, link: "no/such/file") }
    }

    @Test func aTarThatEndsTooEarlyIsRefused() throws {
        try withRegistry { registry, scratch in
            let whole = try SmallImage.base().finished
            try registry.add(layers: [Array(whole.prefix(whole.count / 2))])
            expectRefusal(try build(registry, in: scratch), "layer", scratch)
        }
    }

    @Test func aSizeThatIsALieIsRefused() throws {
        try expectLayerRefusal("layer") { $0.add("huge", content: [1, 2, 3], size: 0o77777777777) }
    }

    @Test func whatIsNoArchiveIsRefused() throws {
        try withRegistry { registry, scratch in
            try registry.add(layers: [Array("this is not a tar".utf8) + [UInt8](repeating: 7, count: 4096)])
            expectRefusal(try build(registry, in: scratch), "layer", scratch)
        }
    }

    @Test func damagedGzipIsRefused() throws {
        try withRegistry { registry, scratch in
            let packed = try Run.program("/bin/sh", ["-c", "head -c 300000 /bin/busybox | gzip"])
            var bytes = [UInt8](packed.bytes)
            bytes[bytes.count / 2] ^= 0xff
            try registry.add(layers: [bytes], mediaType: "application/vnd.oci.image.layer.v1.tar+gzip")
            expectRefusal(try build(registry, in: scratch), "layer", scratch)
        }
    }

    /// Links that point anywhere are data; they must only not be followed out of the tree.
    @Test func linksOutOfTheTreeAreKeptButNotFollowed() throws {
        try withRegistry { registry, scratch in
            var tar = try SmallImage.base()
            tar.add("out", .symlink, link: "../../../../../../var/tmp")
            tar.add("out/inner", content: Array("inside\n".utf8))
            try registry.add(layers: [tar.finished])
            let result = try build(registry, in: scratch)
            #expect(result.status == 0, "\(result)")
            let content = try Run.program("/usr/bin/unsquashfs", ["-o", "36864", "-cat", scratch.file("out.sif"), "var/tmp/inner"])
            #expect(content.output == "inside\n", "\(content)")
            #expect(!FileManager.default.fileExists(atPath: "/var/tmp/inner"))
        }
    }

    @Test func devicesAreDataAndCannotBeOpened() throws {
        guard Site.mayFUSE else { return }
        try withRegistry { registry, scratch in
            var tar = try SmallImage.base()
            tar.add("etc/disk", .blockDevice, mode: 0o666, device: (254, 0))
            try registry.add(layers: [tar.finished])
            #expect(try build(registry, in: scratch).status == 0)
            let result = try Run.singularity("exec", scratch.file("out.sif"), "cat", "/etc/disk", as: .ordinaryUser)
            #expect(result.status != 0)
            #expect(result.error.contains("denied"), "\(result)")
        }
    }
}

/// Counts across threads.
///
/// `@unchecked Sendable`: the number is behind ``lock``.
final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0
    func next() -> Int {
        lock.withLock {
            count += 1
            return count
        }
    }
}

extension FakeRegistry {
    /// A blob, or the part of it that is asked for.
    func standardRange(_ request: Request, _ blob: [UInt8]) -> Response {
        guard let range = request.headers["range"], let start = Int(range.dropFirst("bytes=".count).prefix { $0.isNumber }) else {
            return Response(body: blob)
        }
        return Response(
            status: 206, headers: ["Content-Range": "bytes \(start)-\(blob.count - 1)/\(blob.count)"], body: Array(blob[start...]))
    }
}
