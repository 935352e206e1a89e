import Foundation
import Testing

/// Builds that cannot succeed: a clear word, the old image as it was, and nothing left.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct FailedBuildTests {
    /// A recipe with an old image in its place.
    private func prepared(_ builder: Recipe.Builder = .recorded, name: String = #function) throws -> Recipe {
        let recipe = try Recipe(builder, name: name)
        try recipe.scratch.write("a.sif", Array("old".utf8))
        chmod(recipe.file("a.sif"), 0o666)
        return recipe
    }

    private func expectUntouched(_ recipe: Recipe) throws {
        #expect(try String(contentsOfFile: recipe.file("a.sif"), encoding: .utf8) == "old")
        #expect(recipe.leftovers.isEmpty, "\(recipe.leftovers)")
    }

    @Test(arguments: Recipe.Builder.possible)
    func aFailingCommandIsNamedWithItsLine(_ builder: Recipe.Builder) throws {
        let recipe = try prepared(builder)
        let result = try recipe.build(
            "a.sif", try Recipe.header + "%post\n    echo one\n    echo the reason\n    false\n    echo never\n", options: ["-F"])
        #expect(result.status == 255)
        #expect(result.error.contains(".def:6: while running %post section: exit status 1\n  6 |     false\n"), "\(result)")
        #expect(result.output.contains("the reason") && !result.output.contains("never"))
        try expectUntouched(recipe)
    }

    @Test func aShellWithoutLineNumbersNamesTheCommand() throws {
        let recipe = try prepared()
        // dash has none; the two sections are one script.
        let header = "Bootstrap: localimage\nFrom: \(try Site.debian.get())\n"
        let unique = try recipe.build(
            "a.sif", header + "%post\n    echo one\n\n%labels\n A b\n%post\n    test -e \"/no\"\n", options: ["-F"])
        #expect(unique.error.contains(".def:9: while running %post section: exit status 1\n  9 |     test -e \"/no\"\n"), "\(unique)")
        let several = try recipe.build("a.sif", header + "%post\n    test 1\n    test 2 = 3\n", options: ["-F"])
        #expect(several.error.contains(".def:5: while") || several.error.contains("the last command was: test 2 = 3"), "\(several)")
        try expectUntouched(recipe)
    }

    @Test func aFailingTestKeepsTheImageBack() throws {
        let recipe = try prepared()
        let text = try Recipe.header + "%test\n exit 3\n"
        let result = try recipe.build("a.sif", text, options: ["-F"])
        #expect(result.status == 255 && result.error.contains("failed to execute %test script: exit status 3"), "\(result)")
        try expectUntouched(recipe)
        #expect(try recipe.build("a.sif", text, options: ["-F", "--notest"]).status == 0)
    }

    @Test(arguments: [
        ("Bootstrap: dockr\nFrom: a\n", "invalid build source dockr; did you mean docker?"),
        ("Bootstrap: localimage\nFrom: none.sif\n", "none.sif: the base image of bootstrap: localimage does not exist"),
        ("Bootstrap: localimage\n", "needs a line \"From"),
        ("Bootstrap: localimage\nFrom: /etc/passwd\n", "image format not recognized"),
        ("Bootstrap: docker\nFrom: 127.0.0.1:1/none\n", "127.0.0.1:1"),
        ("Bootstrap: scratch\n%post\n echo\n", "the container has no /bin/sh"),
        ("Bootstrap: debootstrap\nOSVersion: x\n", "needs a line \"mirrorurl"),
        ("Bootstrap: zypper\nOSVersion: x\n", "needs a line \"mirrorurl"),
        ("Bootstrap: zypper\nOSVersion: 15.6\nRegcode: x\n", "none \"product: SLES\""),
        (
            "Bootstrap: zypper\nOSVersion: 15.6\nProduct: SLES\nUser: a\nRegcode: x\nProductPGP: x\n",
            "newer than 12 needs a line \"mirrorurl"
        ),
        ("Bootstrap: zypper\nOSVersion: 15.x\nProduct: SLES\nRegisterURL: a\nMirrorURL: b\n", "15.x is not a version of SUSE"),
        ("Bootstrap: scratch\n%psot\n", "did you mean %post?"),
        ("Bootstrap: docker\nFrom: a\nFingerprints: 1234\n", "1234 is not a fingerprint of 40 digits"),
        (
            "Bootstrap: oci\nFrom: a\nFingerprints: 9C3C1B1B23E755F72A55254249523201BBE9E817\n", "has no signatures that could be checked"
        ),
        ("Bootstrap: docker\nFrom: {{ X }}\n", "build var X is not defined"),
    ])
    func badRecipesAreExplained(_ text: String, _ message: String) throws {
        let recipe = try prepared()
        let result = try recipe.build("a.sif", text, options: ["-F"])
        #expect(result.status == 255 && result.error.contains(message), "\(result)")
        try expectUntouched(recipe)
    }

    @Test func buildArgumentsMustBeOfUse() throws {
        let recipe = try prepared()
        let text = try Recipe.header + "%post\n echo {{ A }}\n"
        let unused = try recipe.build("a.sif", text, options: ["-F", "--build-arg", "A=1", "--build-arg", "B=2"])
        #expect(unused.status == 255 && unused.error.contains("unused build args: B"), "\(unused)")
        try expectUntouched(recipe)
        try recipe.scratch.write("args", Array("A=from file\n".utf8))
        let used = try recipe.build(
            "b.sif", text, options: ["--build-arg-file", "args", "--build-arg", "B=2", "--warn-unused-build-args"])
        #expect(used.status == 0 && used.output.contains("from file"), "\(used)")
    }

    @Test func aTargetIsNotReplacedUnasked() throws {
        let recipe = try prepared()
        let result = try recipe.build("a.sif", try Recipe.header)
        #expect(result.status == 255 && result.error.contains("already exists. Use --force"), "\(result)")
        try expectUntouched(recipe)
    }

    @Test(arguments: Recipe.Builder.possible)
    func aFailedStageCanBeEntered(_ builder: Recipe.Builder) throws {
        let recipe = try prepared(builder)
        let result = try recipe.build(
            "a.sif", try Recipe.header + "%post\n echo state > /state; chown 4:5 /state\n false\n", options: ["-F", "--keep-failed"])
        #expect(result.status == 255)
        let kept = recipe.scratch.names.first { $0.hasPrefix("a.sif.failed-") } ?? ""
        #expect(result.error.contains("shell --writable a.sif.failed-"), "\(result)")
        let inside = try recipe.run(["exec", "--writable", recipe.file(kept), "cat", "/state"])
        #expect(inside.output == "state\n", "\(inside)")
        let removal = try Run.program("/bin/rm", ["-rf", recipe.file(kept)], as: builder == .root ? .caller : .ordinaryUser)
        #expect(removal.status == 0 && !recipe.scratch.names.contains(kept))
        try expectUntouched(recipe)
    }

    @Test(arguments: ["%setup", "%post", "%test"]) func aKilledBuildLeavesNothing(_ section: String) throws {
        let recipe = try prepared()
        let marker = "7\(UInt32.random(in: 100_000...999_999))"
        try recipe.scratch.write("r.def", Array((try Recipe.header + "\(section)\n echo started\n exec sleep \(marker)\n").utf8))
        let build = try Run.start(
            Site.program, ["build", "-F", "--ignore-subuid", "a.sif", "r.def"], as: .ordinaryUser, environment: recipe.variables(),
            in: recipe.scratch.path)
        #expect(Wait.until(20) { (try? Run.program("/usr/bin/pgrep", ["-f", "^sleep \(marker)"]).status) == 0 })
        kill(build.identifier, SIGKILL)
        _ = build.finish()
        #expect(Wait.until(5) { (try? Run.program("/usr/bin/pgrep", ["-f", "^sleep \(marker)"]).status) == 1 })
        // The next build frees what is left.
        #expect(try recipe.build("b.sif", try Recipe.header).status == 0)
        try expectUntouched(recipe)
    }

    @Test func atWhateverMomentItIsKilledNothingIsLeft() throws {
        let recipe = try prepared()
        let text = try Recipe.header + "%files\n /etc/passwd /copied\n%post\n head -c 3000000 /dev/urandom > /big\n%test\n true\n"
        try recipe.scratch.write("r.def", Array(text.utf8))
        for step in 0..<24 {
            let build = try Run.start(
                Site.program, ["build", "-F", "--ignore-subuid", "a.sif", "r.def"], as: .ordinaryUser, environment: recipe.variables(),
                in: recipe.scratch.path)
            usleep(useconds_t(step * 9000))
            kill(build.identifier, SIGKILL)
            let result = build.finish()
            // It was done before: then the image is whole, and the next one starts from the old one again.
            if result.status == 0 { try recipe.scratch.write("a.sif", Array("old".utf8)) }
            chmod(recipe.file("a.sif"), 0o666)
        }
        for step in 0..<8 {
            let build = try Run.start(
                Site.program, ["build", "-F", "--ignore-subuid", "--sandbox", "box", "r.def"], as: .ordinaryUser,
                environment: recipe.variables(), in: recipe.scratch.path)
            usleep(useconds_t(step * 15000))
            kill(build.identifier, SIGKILL)
            _ = build.finish()
        }
        // Another recipe: the leftovers are not its own.
        let last = try recipe.build("b.sif", text + " true\n")
        #expect(last.status == 0, "\(last)")
        #expect(try recipe.run(["build", "-F", "--sandbox", "box", recipe.file("b.sif")]).status == 0)
        #expect(try recipe.text("b.sif", "/copied").contains("root:"))
        #expect(recipe.leftovers.isEmpty, "\(recipe.leftovers)")
        let parts = try FileManager.default.contentsOfDirectory(atPath: recipe.file("cache/cache/build")).filter { $0.hasSuffix(".part") }
        #expect(parts.isEmpty, "\(parts)")
    }

    @Test func anInterruptedBuildCleansUp() throws {
        let recipe = try prepared()
        let marker = "8\(UInt32.random(in: 100_000...999_999))"
        try recipe.scratch.write("r.def", Array((try Recipe.header + "%post\n exec sleep \(marker)\n").utf8))
        let build = try Run.start(
            Site.program, ["build", "-F", "--ignore-subuid", "a.sif", "r.def"], as: .ordinaryUser, environment: recipe.variables(),
            in: recipe.scratch.path)
        #expect(Wait.until(20) { (try? Run.program("/usr/bin/pgrep", ["-f", "^sleep \(marker)"]).status) == 0 })
        kill(build.identifier, SIGTERM)
        let result = build.finish(timeout: 20)
        #expect(result.status == 128 + SIGTERM, "\(result)")
        #expect(Wait.until(5) { (try? Run.program("/usr/bin/pgrep", ["-f", "^sleep \(marker)"]).status) == 1 })
        try expectUntouched(recipe)
    }

    @Test(.enabled(if: Site.isRoot, "needs root to mount a small file system"))
    func aFullDiskIsSaidAndFreed() throws {
        let recipe = try prepared()
        mkdir(recipe.file("small"), 0o777)
        #expect(try Run.program("/bin/mount", ["-t", "tmpfs", "-o", "size=6m,mode=777", "tmpfs", recipe.file("small")]).status == 0)
        defer { _ = try? Run.program("/bin/umount", ["-l", recipe.file("small")]) }
        for (place, variable) in [("section", "TMPDIR"), ("layer", "SINGULARITY_CACHEDIR")] {
            let result = try recipe.build(
                "a.sif", try Recipe.header + "%post\n # \(place)\n dd if=/dev/urandom of=/big bs=1M count=8\n", options: ["-F"],
                environment: [variable: recipe.file("small")])
            #expect(result.status == 255 && result.error.lowercased().contains("no space left"), "\(place): \(result)")
            try expectUntouched(recipe)
            let used = try Run.program("/usr/bin/find", [recipe.file("small"), "-size", "+100k"]).output
            #expect(used.isEmpty, "\(used)")
        }
        let target = try recipe.build(
            recipe.file("small/t.sif"), try Recipe.header + "%post\n dd if=/dev/urandom of=/big bs=1M count=8\n")
        #expect(target.status == 255 && target.error.lowercased().contains("no space left"), "\(target)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: recipe.file("small")).allSatisfy { !$0.hasPrefix("t.sif") })
    }

    @Test func programsAreToldOfProgress() throws {
        let recipe = try prepared()
        let text = try Recipe.header + "%post\n echo said\n"
        let first = try recipe.build("b.sif", text, options: ["--json"])
        let second = try recipe.build("a.sif", text, options: ["--json", "-F"])
        for (result, state) in [(first, "done"), (second, "cached")] {
            let events = try result.output.split(separator: "\n").map {
                try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
            }
            #expect(events.contains { $0["section"] as? String == "%post" && $0["state"] as? String == state }, "\(result)")
            #expect(events.last?["event"] as? String == "target" && events.last?["state"] as? String == "done")
        }
        #expect(first.error.contains("said"))
    }
}
