import Foundation
import TestSupport
import Testing

/// Images from real registries, layouts and archives.
@Suite(.enabled(if: Site.isPrepared, "needs scripts/test.sh")) struct BuildTests {
    private func build(_ scratch: Scratch, _ arguments: [String], environment: [String: String] = [:]) throws -> Run {
        var variables = ["SINGULARITY_CACHEDIR": scratch.file("cache")]
        variables.merge(environment) { _, new in new }
        return try Run.program(Site.program, arguments, as: .ordinaryUser, environment: variables, in: scratch.path)
    }

    @Test func theSameImageTwiceGivesTheSameBytes() throws {
        let scratch = try Scratch()
        for name in ["a.sif", "b.sif"] {
            let result = try build(scratch, ["build", "--disable-cache", name, "docker://\(Site.registry)/debian:latest"])
            #expect(result.status == 0, "\(result)")
        }
        #expect(FileManager.default.contentsEqual(atPath: scratch.file("a.sif"), andPath: scratch.file("b.sif")))
    }

    @Test func archivesAndLayoutsGiveTheSameTree() throws {
        let scratch = try Scratch()
        let source = "docker://\(Site.registry)/debian:latest"
        let copies = [
            "oci:\(scratch.file("layout")):latest", "oci-archive:\(scratch.file("a.tar"))",
            "docker-archive:\(scratch.file("d.tar")):debian:latest",
        ]
        for copy in copies {
            let result = try Run.program("/usr/bin/skopeo", ["copy", "--quiet", "--src-tls-verify=false", source, copy], as: .ordinaryUser)
            #expect(result.status == 0, "\(result)")
        }
        var sums: Set<String> = []
        for (number, address) in [source, copies[0], copies[1], "docker-archive:\(scratch.file("d.tar"))"].enumerated() {
            let result = try build(scratch, ["build", "\(number).sif", address])
            #expect(result.status == 0, "\(result)")
            let list = try Run.program(
                "/bin/sh", ["-c", "unsquashfs -o 36864 -lln $1 | grep -v singularity.d | sha256sum", "sh", scratch.file("\(number).sif")])
            sums.insert(list.output)
        }
        #expect(sums.count == 1)
    }

    @Test(arguments: ["gzip", "xz", "lz4", "zstd"]) func everyCompressorIsReadByUnsquashfs(_ name: String) throws {
        let scratch = try Scratch()
        let result = try build(scratch, ["build", "--compression", name, "i.sif", "docker://\(Site.registry)/debian:latest"])
        #expect(result.status == 0, "\(result)")
        let check = try Run.program(
            "/bin/sh",
            [
                "-c",
                "unsquashfs -o 36864 -s i.sif | grep -i compression; unsquashfs -q -n -o 36864 -d x i.sif usr/bin && ls x/usr/bin | wc -l",
            ], as: .ordinaryUser, in: scratch.path)
        #expect(check.output.lowercased().contains(name), "\(check)")
        #expect(check.status == 0)
        if Site.mayFUSE {
            let run = try Run.singularity("exec", scratch.file("i.sif"), "cat", "/etc/debian_version", as: .ordinaryUser)
            #expect(run.status == 0, "\(run)")
        }
    }

    @Test(.enabled(if: Site.isRoot, "needs root")) func theKernelReadsWhatUnsquashfsReads() throws {
        let scratch = try Scratch()
        let image = try Site.debian.get()
        try FileManager.default.createDirectory(atPath: scratch.file("m"), withIntermediateDirectories: true)
        let script = """
            # A copy: mount(8) refuses a file that a running container of root has on a loop device.
            cp "$1" copy.sif
            mount -t squashfs -o loop,ro,offset=36864 copy.sif m && trap 'umount m' EXIT
            (cd m && find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) > kernel
            unsquashfs -q -n -o 36864 -d u "$1" && (cd u && find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) > unsquashfs
            (tar -xOf "$2" ./usr/bin/perl | sha256sum | cut -d' ' -f1; grep ' ./usr/bin/perl$' kernel | cut -d' ' -f1) | uniq | wc -l
            cmp kernel unsquashfs && wc -l < kernel
            """
        let result = try Run.program("/bin/sh", ["-c", script, "sh", image, Site.folder + "/debian/rootfs.tar"], in: scratch.path)
        #expect(result.status == 0, "\(result)")
        #expect(result.output.hasPrefix("1\n"), "\(result)")
    }

    @Test(.enabled(if: Site.mayFUSE, "needs /dev/fuse")) func everyFileReadsTheSameThroughTheContainersMount() throws {
        let scratch = try Scratch()
        let script = "find / -xdev -type f ! -path '/etc/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum 2>/dev/null | sed 's|  /|  ./|'"
        let mounted = try Run.singularity("exec", "--contain", "--no-home", Site.debian.get(), "sh", "-c", script, as: .ordinaryUser)
        let unpack = """
            unsquashfs -q -n -o 36864 -d u "$1" >/dev/null 2>&1
            chmod -R u+r u; cd u && find . -xdev -type f ! -path './etc/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
            """
        let unpacked = try Run.program("/bin/sh", ["-c", unpack, "sh", Site.debian.get()], as: .ordinaryUser, in: scratch.path)
        let left = mounted.output.split(separator: "\n")
        let right = unpacked.output.split(separator: "\n")
        #expect(left.count > 3000)
        #expect(Set(left).symmetricDifference(right) == [])
    }

    @Test func anImageThatIsThereIsNotOverwritten() throws {
        let scratch = try Scratch()
        try scratch.write("there.sif", [1])
        let refused = try build(scratch, ["build", "there.sif", "docker://\(Site.registry)/debian:latest"])
        #expect(refused.status == 255)
        #expect(refused.error.contains("already exists. Use --force"), "\(refused)")
        #expect(try Data(contentsOf: URL(filePath: scratch.file("there.sif"))) == Data([1]))
        let pull = try build(scratch, ["pull", "there.sif", "docker://\(Site.registry)/debian:latest"])
        #expect(pull.status == 255 && pull.error.contains("image file already exists"), "\(pull)")
    }

    @Test func pullNamesTheFileAfterTheImage() throws {
        let scratch = try Scratch()
        let result = try build(scratch, ["pull", "docker://\(Site.registry)/debian:latest"])
        #expect(result.status == 0, "\(result)")
        #expect(scratch.names.contains("debian_latest.sif"))
    }

    @Test func aFullCacheNeedsNoNetwork() throws {
        let registry = try FakeRegistry()
        let scratch = try Scratch()
        let digest = try registry.add(layers: [try SmallImage.base().finished])
        #expect(try build(scratch, ["build", "1.sif", "docker://\(registry.address)/image:latest"]).status == 0)
        registry.stop()
        let before = registry.requests.count
        // By digest no packet is sent; by tag --offline says so.
        let pinned = try build(scratch, ["build", "2.sif", "docker://\(registry.address)/image@\(digest)"])
        #expect(pinned.status == 0, "\(pinned)")
        let offline = try build(scratch, ["build", "--offline", "3.sif", "docker://\(registry.address)/image:latest"])
        #expect(offline.status == 0, "\(offline)")
        #expect(registry.requests.count == before)
        let missing = try build(scratch, ["build", "--offline", "4.sif", "docker://\(registry.address)/other:latest"])
        #expect(missing.status == 255 && missing.error.contains("offline"), "\(missing)")
    }

    @Test func aDamagedBlobInTheCacheIsFoundAndRemoved() throws {
        let registry = try FakeRegistry()
        defer { registry.stop() }
        let scratch = try Scratch()
        let layer = try SmallImage.base().finished
        try registry.add(layers: [layer])
        let address = "docker://\(registry.address)/image:latest"
        #expect(try build(scratch, ["build", "1.sif", address]).status == 0)
        let blob = scratch.file("cache/cache/blob/blobs/sha256/\(FakeRegistry.digest(layer).dropFirst(7))")
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: blob)))
        bytes[100_000] ^= 0x10
        try Data(bytes).write(to: URL(filePath: blob))
        let damaged = try build(scratch, ["build", "2.sif", address])
        #expect(damaged.status == 255 && damaged.error.contains("damaged and has been removed"), "\(damaged)")
        #expect(try build(scratch, ["build", "3.sif", address]).status == 0)
    }

    @Test func manyPullsAtOnceFetchEachLayerOnce() throws {
        let registry = try FakeRegistry()
        defer { registry.stop() }
        let scratch = try Scratch()
        let layer = try SmallImage.base().finished
        try registry.add(layers: [layer])
        let runs = try (0..<12).map { number in
            try Run.start(
                Site.program, ["build", "\(number).sif", "docker://\(registry.address)/image:latest"], as: .ordinaryUser,
                environment: ["SINGULARITY_CACHEDIR": scratch.file("cache")], in: scratch.path)
        }
        for run in runs {
            let result = run.finish()
            #expect(result.status == 0, "\(result)")
        }
        let fetched = registry.requests.filter { $0.method == "GET" && $0.path.hasSuffix(FakeRegistry.digest(layer)) }
        #expect(fetched.count == 1)
        #expect(scratch.names.filter { $0.hasSuffix(".sif") }.count == 12)
    }

    @Test func aKilledPullLeavesNothingHalfAndIsGoneOnWith() throws {
        let registry = try FakeRegistry()
        defer { registry.stop() }
        let scratch = try Scratch()
        var tar = try SmallImage.base()
        var generator = Generator(state: 5)
        tar.add("big", content: (0..<3_000_000).map { _ in UInt8.random(in: 0...255, using: &generator) })
        let layer = tar.finished
        try registry.add(layers: [layer])
        // The first answer breaks off in the middle.
        let count = Counter()
        registry.answer { request in
            guard request.path.hasSuffix(FakeRegistry.digest(layer)), count.next() == 1 else { return nil }
            return FakeRegistry.Response(headers: ["X-Part": "1"], body: layer, breaksAfter: 1_000_000)
        }
        let live = try Run.start(
            Site.program, ["build", "out.sif", "docker://\(registry.address)/image:latest"], as: .ordinaryUser,
            environment: ["SINGULARITY_CACHEDIR": scratch.file("cache")], in: scratch.path)
        let leases = scratch.file("cache/cache/blob/leases")
        _ = Wait.until(10) { ((try? FileManager.default.contentsOfDirectory(atPath: leases)) ?? []).contains { $0.hasSuffix(".partial") } }
        kill(live.identifier, SIGKILL)
        #expect(live.finish().status == 137)
        #expect(scratch.names.filter { $0 != "cache" } == [])
        let again = try build(scratch, ["build", "out.sif", "docker://\(registry.address)/image:latest"])
        #expect(again.status == 0, "\(again)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: leases) == [])
    }

    /// Processes that share a cache and are killed at random: the others succeed, and what is left is whole.
    @Test func killedPullsHarmNoOthers() throws {
        let registry = try FakeRegistry()
        defer { registry.stop() }
        let scratch = try Scratch()
        var tar = try SmallImage.base()
        var generator = Generator(state: 6)
        tar.add("big", content: (0..<6_000_000).map { _ in UInt8.random(in: 0...255, using: &generator) })
        try registry.add(layers: [tar.finished, try SmallImage.base().finished])
        var runs: [(number: Int, live: Run.Live, isKilled: Bool)] = []
        for number in 0..<16 {
            let live = try Run.start(
                Site.program, ["build", "\(number).sif", "docker://\(registry.address)/image:latest"], as: .ordinaryUser,
                environment: ["SINGULARITY_CACHEDIR": scratch.file("cache")], in: scratch.path)
            let isKilled = number % 3 == 0
            if isKilled {
                usleep(UInt32.random(in: 1000...150_000, using: &generator))
                kill(live.identifier, SIGKILL)
            }
            runs.append((number, live, isKilled))
        }
        var images: Set<Data> = []
        for run in runs {
            let result = run.live.finish()
            if !run.isKilled { #expect(result.status == 0, "\(run.number): \(result)") }
            let file = URL(filePath: scratch.file("\(run.number).sif"))
            if let bytes = try? Data(contentsOf: file) { images.insert(bytes) }
        }
        // An image is there whole or not at all.
        #expect(images.count == 1)
        #expect(scratch.names.allSatisfy { $0 == "cache" || $0.hasSuffix(".sif") }, "\(scratch.names)")
    }

    @Test(.enabled(if: Site.isRoot, "needs root to mount a small file system")) func aFullDiskIsNamedAndLeavesNothing() throws {
        let registry = try FakeRegistry()
        defer { registry.stop() }
        let scratch = try Scratch()
        var tar = try SmallImage.base()
        var generator = Generator(state: 8)
        tar.add("big", content: (0..<6_000_000).map { _ in UInt8.random(in: 0...255, using: &generator) })
        try registry.add(layers: [tar.finished])
        try FileManager.default.createDirectory(atPath: scratch.file("small"), withIntermediateDirectories: true)
        _ = try Run.program("/bin/mount", ["-t", "tmpfs", "-o", "size=4m,mode=1777", "none", scratch.file("small")])
        defer { _ = try? Run.program("/bin/umount", [scratch.file("small")]) }
        for (cache, target) in [("small/cache", "x.sif"), ("cache", "small/x.sif")] {
            let result = try Run.singularity(
                "build", scratch.file(target), "docker://\(registry.address)/image:latest", as: .ordinaryUser,
                environment: ["SINGULARITY_CACHEDIR": scratch.file(cache)])
            #expect(result.status == 255 && result.error.contains("No space left on device"), "\(result)")
            #expect(!FileManager.default.fileExists(atPath: scratch.file(target)))
            let leases = (try? FileManager.default.contentsOfDirectory(atPath: scratch.file("small/cache/cache/blob/leases"))) ?? []
            #expect(!leases.contains { $0.hasSuffix(".lease") })
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.file("small")).filter { $0.contains("sif") } == [])
    }

    @Test func anotherArchitectureIsChosenOrRefused() throws {
        let registry = try FakeRegistry()
        defer { registry.stop() }
        let scratch = try Scratch()
        let digest = try registry.add(layers: [try SmallImage.base().finished], tag: "amd")
        let index =
            #"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"\#(digest)","size":1,"platform":{"architecture":"amd64","os":"linux"}}]}"#
        registry.add(manifest: Array(index.utf8), type: "application/vnd.oci.image.index.v1+json", tag: "index")
        #expect(try build(scratch, ["build", "a.sif", "docker://\(registry.address)/image:index"]).status == 0)
        let refused = try build(scratch, ["build", "--arch", "arm64", "b.sif", "docker://\(registry.address)/image:index"])
        #expect(refused.status == 255 && refused.error.contains("arm64") && refused.error.contains("amd64"), "\(refused)")
    }
}

/// Downloads that the users of a site share.
@Suite(.enabled(if: Site.isPrepared && Site.isRoot, "needs scripts/test.sh as root")) struct SiteStoreTests {
    private func pull(_ scratch: Scratch, _ target: String, _ who: Run.Identity, _ options: [String] = []) throws -> Run {
        let name = try Run.program(
            "/usr/bin/skopeo", ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://\(Site.registry)/debian:latest"])
        let digest = name.output.trimmingCharacters(in: .whitespacesAndNewlines)
        let cache = scratch.file("cache-\(target)")
        mkdir(cache, 0o777)
        chmod(cache, 0o777)
        return try Run.program(
            Site.program, ["pull"] + options + [scratch.file(target), "docker://\(Site.registry)/debian@\(digest)"], as: who,
            environment: ["SINGULARITY_CACHEDIR": cache, "SINGULARITY_SITE_CACHE": scratch.file("site")])
    }

    private func largest(_ scratch: Scratch) throws -> String {
        let folder = scratch.file("site/blobs/sha256")
        return try FileManager.default.contentsOfDirectory(atPath: folder).map { folder + "/" + $0 }.max {
            (try? FileManager.default.attributesOfItem(atPath: $0)[.size] as? Int ?? 0) ?? 0
                < (try? FileManager.default.attributesOfItem(atPath: $1)[.size] as? Int ?? 0) ?? 0
        } ?? ""
    }

    @Test func whatOneUserHasFetchedAnotherNeedNotFetch() throws {
        let scratch = try Scratch()
        #expect(try pull(scratch, "a.sif", .caller).status == 0)
        let second = try pull(scratch, "b.sif", .ordinaryUser, ["--offline"])
        #expect(second.status == 0, "\(second)")
        #expect(FileManager.default.contentsEqual(atPath: scratch.file("a.sif"), andPath: scratch.file("b.sif")))
    }

    @Test func nobodyReplacesAnothersBlobAndAWrongOneDoesNotCount() throws {
        let scratch = try Scratch()
        #expect(try pull(scratch, "a.sif", .caller).status == 0)
        let blob = try largest(scratch)
        let tries = try Run.program(
            "/bin/sh", ["-c", "rm -f \"$1\"; echo x > \"$1\"; cp /etc/passwd \"$1\"; mv \"$1\" /tmp/", "sh", blob], as: .ordinaryUser)
        #expect(tries.status != 0 && FileManager.default.fileExists(atPath: blob))
        // Even one whose owner lies in it, with the right size.
        let size = try FileManager.default.attributesOfItem(atPath: blob)[.size] as? Int ?? 0
        chmod(blob, 0o644)
        try Data(count: size).write(to: URL(filePath: blob))
        let offline = try pull(scratch, "b.sif", .ordinaryUser, ["--offline"])
        #expect(offline.status == 255 && offline.error.contains("--offline"), "\(offline)")
        let online = try pull(scratch, "c.sif", .ordinaryUser)
        #expect(online.status == 0, "\(online)")
        #expect(FileManager.default.contentsEqual(atPath: scratch.file("a.sif"), andPath: scratch.file("c.sif")))
    }
}
