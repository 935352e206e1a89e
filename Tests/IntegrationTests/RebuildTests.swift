import Foundation
import Testing

/// Kept layers: a rebuild costs what changed.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct RebuildTests {
    /// A section that says when it was run.
    private static let stamp = " cat /proc/sys/kernel/random/uuid > /stamp\n"

    @Test(arguments: Recipe.Builder.possible)
    func nothingChangedGivesTheSameBytes(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        let text = try Recipe.header + "%post\n" + Self.stamp
        for name in ["a.sif", "b.sif"] { #expect(try recipe.build(name, text).status == 0) }
        #expect(FileManager.default.contentsEqual(atPath: recipe.file("a.sif"), andPath: recipe.file("b.sif")))
        let again = try recipe.build("c.sif", text, options: ["--no-layer-cache"])
        #expect(again.status == 0, "\(again)")
        #expect(try recipe.text("c.sif", "/stamp") != recipe.text("a.sif", "/stamp"))
    }

    @Test func sectionsRunFromTheFirstDifferenceOn() throws {
        let recipe = try Recipe()
        try recipe.scratch.write("input", Array("1".utf8))
        let base = try Recipe.busybox.get()
        func text(_ last: String, _ label: String = "a") -> String {
            """
            Bootstrap: localimage
            From: \(base)
            Stage: one
            %post
            \(Self.stamp)
            Bootstrap: localimage
            From: \(base)
            %files from one
                /stamp /stamp-one
            %files
                input /input
            %labels
                L \(label)
            %post
            \(Self.stamp)    echo \(last) > /last
            """
        }
        func stamps(_ image: String) throws -> [String] { try ["/stamp-one", "/stamp"].map { try recipe.text(image, $0) } }
        #expect(try recipe.build("a.sif", text("x")).status == 0)
        let first = try stamps("a.sif")
        // A label is no reason to run anything.
        #expect(try recipe.build("b.sif", text("x", "b")).status == 0)
        #expect(try stamps("b.sif") == first)
        // The last section alone.
        #expect(try recipe.build("c.sif", text("y")).status == 0)
        let third = try stamps("c.sif")
        #expect(third[0] == first[0] && third[1] != first[1])
        // An input that changes, although its name does not.
        try recipe.scratch.write("input", Array("2".utf8))
        #expect(try recipe.build("d.sif", text("x")).status == 0)
        let fourth = try stamps("d.sif")
        #expect(fourth[0] == first[0] && fourth[1] != first[1])
        // Back again: nothing has to run.
        try recipe.scratch.write("input", Array("1".utf8))
        #expect(try recipe.build("e.sif", text("x")).status == 0)
        #expect(try stamps("e.sif") == first)
    }

    @Test func anotherBaseIsAnotherBuild() throws {
        let recipe = try Recipe()
        #expect(try recipe.build("base.sif", try Recipe.header + "%post\n echo 1 > /base\n").status == 0)
        let text = "Bootstrap: localimage\nFrom: base.sif\n%post\n cp /base /copy\n"
        #expect(try recipe.build("a.sif", text).status == 0)
        #expect(try recipe.build("base.sif", try Recipe.header + "%post\n echo 2 > /base\n", options: ["--force"]).status == 0)
        #expect(try recipe.build("b.sif", text).status == 0)
        #expect(try recipe.text("a.sif", "/copy") == "1\n")
        #expect(try recipe.text("b.sif", "/copy") == "2\n")
    }

    @Test func blocksOfTheBaseAreTakenOver() throws {
        let recipe = try Recipe()
        let base = try Site.debian.get()
        let result = try recipe.build("a.sif", "Bootstrap: localimage\nFrom: \(base)\n%post\n echo x > /x\n")
        #expect(result.status == 0, "\(result)")
        let sizes = try [base, recipe.file("a.sif")].map { try FileManager.default.attributesOfItem(atPath: $0)[.size] as? Int ?? 0 }
        #expect(abs(sizes[0] - sizes[1]) < 1 << 18, "\(sizes)")
        let check = try Run.program(
            "/bin/sh",
            ["-c", "\(Site.program) diff \(base) a.sif | grep -v '/.singularity.d'"], in: recipe.scratch.path)
        #expect(check.output == "A /x\n", "\(check)")
    }

    @Test func aPinnedTimeGivesTheSameBytesAnywhere() throws {
        var sums: Set<Data> = []
        for _ in 0..<2 {
            let recipe = try Recipe()
            try recipe.scratch.write("base.sif", [UInt8](try Data(contentsOf: URL(filePath: try Recipe.busybox.get()))))
            let result = try recipe.build(
                "a.sif",
                "Bootstrap: localimage\nFrom: base.sif\n%environment\n export A=1\n%post\n mkdir /d; echo x > /d/x; chown 1:1 /d/x\n",
                environment: ["SOURCE_DATE_EPOCH": "1700000000"])
            #expect(result.status == 0, "\(result)")
            sums.insert(try Data(contentsOf: URL(filePath: recipe.file("a.sif"))))
        }
        #expect(sums.count == 1)
    }

    @Test func theCacheSaysWhatItsLayersAreOf() throws {
        let recipe = try Recipe()
        #expect(try recipe.build("a.sif", try Recipe.header + "%post\n echo x > /x\n").status == 0)
        let list = try recipe.run(["cache", "list", "-v", "-T", "build"]).output
        #expect(list.contains(".def:3 %post"), "\(list)")
        let old = try recipe.run(["cache", "clean", "--force", "--older-than", "1h"])
        #expect(old.status == 0)
        #expect(try recipe.run(["cache", "list", "-v", "-T", "build"]).output.contains("%post"))
        #expect(try recipe.run(["cache", "clean", "--force", "-T", "build"]).status == 0)
        #expect(!(try recipe.run(["cache", "list", "-v", "-T", "build"]).output.contains("%post")))
    }

    @Test func theCacheStaysBelowItsLimit() throws {
        let recipe = try Recipe()
        for number in 0..<4 {
            let result = try recipe.build(
                "a.sif", try Recipe.header + "%post\n head -c 1000000 /dev/urandom > /x\(number)\n", options: ["--force"],
                environment: ["SINGULARITY_LAYER_CACHE_LIMIT": "2500K"])
            #expect(result.status == 0, "\(result)")
        }
        let layers = try FileManager.default.contentsOfDirectory(atPath: recipe.file("cache/cache/build")).filter { $0.hasSuffix(".sqfs") }
        #expect(layers.count == 2, "\(layers)")
    }

    @Test func manyBuildsShareACacheAndOneMayBeKilled() throws {
        let recipe = try Recipe()
        let text = try Recipe.header + "%post\n sleep 1\n" + Self.stamp
        try recipe.scratch.write("r.def", Array(text.utf8))
        let builds = try (0..<8).map { number in
            try Run.start(
                Site.program, ["build", "--ignore-subuid", "\(number).sif", "r.def"], as: .ordinaryUser, environment: recipe.variables(),
                in: recipe.scratch.path)
        }
        usleep(600_000)
        kill(builds[3].identifier, SIGKILL)
        let results = builds.map { $0.finish(timeout: 60) }
        for (number, result) in results.enumerated() where number != 3 { #expect(result.status == 0, "\(result)") }
        let stamps = Set(try (0..<8).filter { $0 != 3 }.map { try recipe.text("\($0).sif", "/stamp") })
        #expect(stamps.count == 1)
        // What the killed one left goes with the next build.
        #expect(try recipe.build("z.sif", text).status == 0)
        #expect(recipe.leftovers.isEmpty, "\(recipe.leftovers)")
    }

    @Test func aRegistryImageIsABaseLikeAnyOther() throws {
        let recipe = try Recipe()
        let text = "Bootstrap: docker\nRegistry: \(Site.registry)\nFrom: debian:latest\n%post\n" + Self.stamp
        let first = try recipe.build("a.sif", text, options: ["--no-https"])
        #expect(first.status == 0, "\(first)")
        let second = try recipe.build("b.sif", text, options: ["--no-https"])
        #expect(second.error.contains("Using cached layer of %post"), "\(second)")
        #expect(FileManager.default.contentsEqual(atPath: recipe.file("a.sif"), andPath: recipe.file("b.sif")))
        let labels = try recipe.run(["inspect", recipe.file("a.sif")]).output
        #expect(labels.contains("usage.singularity.deffile.from: debian:latest\n"), "\(labels)")
        #expect(try recipe.run(["run", recipe.file("a.sif"), "echo", "hi"]).status == 0)
    }

    @Test func nothingIsKeptWhereThatIsAsked() throws {
        let recipe = try Recipe()
        let text = "Bootstrap: docker\nFrom: \(Site.registry)/debian:latest\n%post\n echo x > /x\n"
        let result = try recipe.build("a.sif", text, options: ["--disable-cache", "--no-https"])
        #expect(result.status == 0, "\(result)")
        #expect(recipe.scratch.names.filter { !$0.hasPrefix("recipe-") } == ["a.sif"], "\(recipe.scratch.names)")
    }
}
