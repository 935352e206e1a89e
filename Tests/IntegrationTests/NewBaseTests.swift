import Foundation
import Testing

/// Bases that nobody has seen before are hashed while the build goes on; layers get their names when that is done.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"), .serialized)
struct NewBaseTests {
    private static let stamp = " cat /proc/sys/kernel/random/uuid > /stamp\n"

    /// A recipe with a base that takes a moment to hash.
    private func recipe(_ builder: Recipe.Builder, _ name: String = #function) throws -> Recipe {
        let recipe = try Recipe(builder, name: name)
        let base = try recipe.build(
            "base.sif", try Recipe.header + "%post\n    dd if=/dev/urandom of=/large bs=1M count=64 2>/dev/null\n",
            environment: ["SINGULARITY_CACHEDIR": recipe.file("other-cache")])
        try #require(base.status == 0, "\(base)")
        // Digests of files that change just now are not kept.
        try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -60)], ofItemAtPath: recipe.file("base.sif"))
        return recipe
    }

    @Test(arguments: Recipe.Builder.possible)
    func itsLayersAreThereForTheNextBuild(_ builder: Recipe.Builder) throws {
        let recipe = try recipe(builder)
        try recipe.scratch.write("input", Array("1".utf8))
        let text = "Bootstrap: localimage\nFrom: base.sif\n%files\n    input /input\n%post\n" + Self.stamp
        let first = try recipe.build("a.sif", text)
        #expect(first.status == 0, "\(first)")
        let record = try recipe.run(["inspect", "--build-record", "a.sif"])
        let digest = FakeRegistry.digest([UInt8](try Data(contentsOf: URL(filePath: recipe.file("base.sif")))))
        #expect(record.output.contains("\"\(digest)\""), "\(record)")
        let provenance = try recipe.run(["inspect", "--provenance", "a.sif"])
        #expect(provenance.output.contains(digest.dropFirst("sha256:".count)), "\(provenance)")

        let second = try recipe.build("b.sif", text)
        #expect(second.status == 0 && second.error.contains("Using cached layer of %files"), "\(second)")
        #expect(second.error.contains("Using cached layer of %post"), "\(second)")
        #expect(FileManager.default.contentsEqual(atPath: recipe.file("a.sif"), andPath: recipe.file("b.sif")))
        // The same content under another name is known by its size, and hashed first.
        let copy = try recipe.run(["copy", "base.sif", "copy.sif"])
        #expect(copy.status == 0, "\(copy)")
        try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -60)], ofItemAtPath: recipe.file("copy.sif"))
        let third = try recipe.build("c.sif", text.replacingOccurrences(of: "base.sif", with: "copy.sif"))
        #expect(third.status == 0 && third.error.contains("Using cached layer of %post"), "\(third)")
        #expect(recipe.leftovers.isEmpty)
    }

    /// One hashes it and builds meanwhile; the others wait for the digest, and then for each other's layers.
    @Test func buildsThatBeginTogetherRunTheSectionsOfTwo() throws {
        let recipe = try recipe(.recorded)
        let text = "Bootstrap: localimage\nFrom: base.sif\n%post\n" + Self.stamp
        try recipe.scratch.write("a.def", Array(text.utf8))
        let names = (0..<4).map { "\($0).sif" }
        let builds = try names.map {
            try Run.start(
                Site.program, ["build", "--ignore-subuid", $0, "a.def"], as: .ordinaryUser, environment: recipe.variables(),
                in: recipe.scratch.path)
        }.map { $0.finish() }
        #expect(builds.allSatisfy { $0.status == 0 }, "\(builds)")
        #expect(try Set(names.map { try recipe.text($0, "/stamp") }).count <= 2)
        let digests = try FileManager.default.contentsOfDirectory(atPath: recipe.file("cache/cache/build/digests"))
        #expect(digests.count == 1 && !digests[0].hasSuffix(".lease"), "\(digests)")
        #expect(recipe.leftovers.isEmpty)
    }

    @Test func aBuildThatFailsKeepsTheLayersBefore() throws {
        let recipe = try recipe(.recorded)
        let stages = "Bootstrap: localimage\nFrom: base.sif\nStage: one\n%post\n\(Self.stamp)\nBootstrap: localimage\nFrom: base.sif\n"
        let bad = try recipe.build("a.sif", stages + "%files from one\n    /stamp /first\n%post\n    exit 3\n")
        #expect(bad.status == 255 && bad.error.contains("%post"), "\(bad)")
        #expect(!FileManager.default.fileExists(atPath: recipe.file("a.sif")))
        let good = try recipe.build("a.sif", stages + "%files from one\n    /stamp /first\n%post\n    true\n")
        #expect(good.status == 0 && good.error.contains("Using cached layer of %files (line 9)"), "\(good)")
        #expect(recipe.leftovers.isEmpty)
    }

    @Test func withoutTheCacheNothingIsKept() throws {
        let recipe = try recipe(.recorded)
        let stage = "Bootstrap: localimage\nFrom: base.sif\nStage: one\n%post\n\(Self.stamp)\n"
        let text = stage + "Bootstrap: localimage\nFrom: base.sif\n%files from one\n    /stamp /first\n%post\n" + Self.stamp
        for name in ["a.sif", "b.sif"] {
            let build = try recipe.build(name, text, options: ["--no-layer-cache"])
            #expect(build.status == 0, "\(build)")
            // Layers of the two stages are not taken for each other.
            let stamps = try ["/first", "/stamp"].map { try recipe.text(name, $0) }
            #expect(stamps.allSatisfy { $0.count > 30 } && stamps[0] != stamps[1], "\(stamps)")
        }
        #expect(try recipe.text("a.sif", "/stamp") != recipe.text("b.sif", "/stamp"))
    }
}
