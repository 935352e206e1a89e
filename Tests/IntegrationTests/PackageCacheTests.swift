import Foundation
import Testing

/// What package managers download in sections, kept between builds.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct PackageCacheTests {
    /// A repository for apt with the packages `one` and `two`, served by HTTP.
    private final class Repository {
        let server: Run.Live
        let port: Int

        init(in scratch: Scratch) throws {
            let script = """
                set -e
                cd "$1"; mkdir repository; cd repository
                for name in one two; do
                    mkdir -p $name/DEBIAN $name/opt
                    head -c 50000 /dev/urandom > $name/opt/$name
                    printf 'Package: %s\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: %s\\n' $name $name > $name/DEBIAN/control
                    dpkg-deb --root-owner-group --build $name ${name}_1_all.deb >/dev/null
                    cat $name/DEBIAN/control
                    printf 'Filename: ./%s_1_all.deb\\nSize: %s\\nSHA256: %s\\n\\n' $name $(stat -c %s ${name}_1_all.deb) $(sha256sum ${name}_1_all.deb | cut -d' ' -f1)
                    rm -r $name
                done > Packages
                """
            let made = try Run.program("/bin/sh", ["-c", script, "sh", scratch.path])
            try #require(made.status == 0, "\(made)")
            server = try Run.start(
                "/usr/bin/python3", ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", scratch.file("repository")])
            try #require(server.waitFor("Serving HTTP"))
            let words = server.printed().split(separator: " ")
            port = try #require(words.firstIndex(of: "port").flatMap { Int(words[$0 + 1]) })
        }

        // A test that fails leaves it running.
        deinit { if server.process.isRunning { server.process.terminate() } }

        /// Ends the server.
        /// - Returns: how often each package was asked for.
        func finish() -> [String: Int] {
            server.process.terminate()
            let lines = server.finish().error.split(separator: "\n").filter { $0.contains("GET ") && $0.contains(" 200 ") }
            func count(_ name: String) -> Int { lines.count { $0.contains("/\(name)_1_all.deb") } }
            return ["one": count("one"), "two": count("two")]
        }

        /// A recipe that installs packages from here alone.
        func recipe(_ packages: String, after: String = "") throws -> String {
            """
            Bootstrap: localimage
            From: \(try Site.debian.get())
            %post
                echo 'deb [trusted=yes] http://127.0.0.1:\(port) ./' > /etc/apt/local.list
                apt="apt-get -q -y -o Dir::Etc::sourcelist=/etc/apt/local.list -o Dir::Etc::sourceparts=-"
                $apt update
                $apt install \(packages)
            \(after)

            """
        }
    }

    private func build(_ recipe: Recipe, _ target: String, _ text: String, file: String = "a.def", cache: String = "cache") throws {
        try recipe.scratch.write(file, Array(text.utf8))
        let result = try recipe.run(
            ["build", "--package-cache", target, file], environment: ["SINGULARITY_CACHEDIR": recipe.file(cache)])
        try #require(result.status == 0, "\(result)")
    }

    @Test(arguments: Recipe.Builder.possible)
    func aRecipeDownloadsAPackageOnce(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        let repository = try Repository(in: recipe.scratch)
        // Removed as soon as it is installed, as recipes do.
        try build(recipe, "1.sif", repository.recipe("one", after: "    apt-get clean; rm -rf /var/cache/apt"))
        try build(recipe, "2.sif", repository.recipe("one two"))
        try build(recipe, "3.sif", repository.recipe("two one"))
        // Another recipe gets nothing of what this one could have put there.
        try build(recipe, "other.sif", repository.recipe("two one", after: "    echo other"), file: "other.def")
        try build(recipe, "new.sif", repository.recipe("two one"), cache: "cache-new")
        let count = repository.finish()
        #expect(count == ["one": 3, "two": 3], "\(count)")
        #expect(recipe.leftovers.isEmpty)
        for image in ["2.sif", "3.sif"] {
            #expect(try recipe.listing(image, "/opt").count == 3)
            #expect(try recipe.listing(image, "/.singularity.packages").isEmpty)
            #expect(try recipe.listing(image).allSatisfy { !$0.hasSuffix(".deb") })
        }
        // What is in the image does not depend on what was there before.
        #expect(try recipe.listing("3.sif") == recipe.listing("new.sif"))
    }

    @Test func theCacheIsListedAndCleaned() throws {
        let recipe = try Recipe(Site.isRoot ? .root : .recorded)
        let repository = try Repository(in: recipe.scratch)
        try build(recipe, "1.sif", repository.recipe("one"))
        let list = try recipe.run(["cache", "list", "-v", "-T", "packages"])
        #expect(list.output.contains("packages  \(recipe.file("a.def"))\n"), "\(list)")
        #expect(try recipe.run(["cache", "clean", "--force", "-T", "packages"]).status == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: recipe.file("cache/cache/packages")).isEmpty)
        try build(recipe, "2.sif", repository.recipe("one", after: "    true"))
        #expect(repository.finish()["one"] == 2)
    }

    /// A section that leads its own cache elsewhere harms nothing outside, and a download that fails later is kept.
    @Test(arguments: Recipe.Builder.possible)
    func linksLeadNowhereAndFailedSectionsKeepPackages(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        let repository = try Repository(in: recipe.scratch)
        let outside = try Scratch("outside")
        try outside.write("precious.deb", Array("precious".utf8))
        try recipe.scratch.write(
            "a.def",
            Array(
                try repository.recipe(
                    "one", after: "    rm -rf /var/cache/apt/archives; ln -s \(outside.path) /var/cache/apt/archives; sleep 0.2; false"
                ).utf8))
        let failed = try recipe.run(["build", "--package-cache", "1.sif", "a.def"])
        #expect(failed.status == 255, "\(failed)")
        #expect(outside.names == ["precious.deb"])
        try build(recipe, "2.sif", repository.recipe("one"))
        #expect(repository.finish()["one"] == 1)
    }
}
