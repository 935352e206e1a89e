import Foundation
import Testing

/// From an image to a directory and back: what nobody has changed in between keeps its compressed blocks.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct SandboxRoundTripTests {
    private let recipe: Recipe

    /// An image in gzip's format, by which blocks that were copied can be told from those that were made anew: of a directory
    /// that nothing is known of an image in zstd's is made.
    init() throws {
        recipe = try Recipe(Recipe.Builder.possible[0], name: "roundTrip")
        let text = try """
        \(Recipe.header)%post
            head -c 3000000 /dev/urandom > /large
            for n in 1 2 3 4 5 6 7 8 9; do echo small $n > /small$n; done
            ln /small1 /same
            chown 7:8 /small2; chmod 600 /small3
        """
        let built = try recipe.build("base.sif", text, options: ["--compression", "gzip"])
        try #require(built.status == 0, "\(built)")
        try unpack()
    }

    private func unpack() throws { try must(["build", "--force", "--sandbox", "box", "base.sif"]) }

    @discardableResult
    private func must(_ words: [String], environment: [String: String] = [:]) throws -> String {
        let result = try recipe.run(words, environment: environment)
        try #require(result.status == 0, "\(words): \(result)")
        return result.output
    }

    /// - Returns: the differences between the directory and the image that is made of it, and the image's compressor.
    private func back(_ options: [String] = [], environment: [String: String] = [:]) throws -> (differences: String, compressor: Int) {
        try must(["build", "--force"] + options + ["back.sif", "box"], environment: environment)
        let bytes = try Data(contentsOf: URL(filePath: recipe.file("back.sif")))
        let superblock = try #require(bytes.range(of: Data("hsqs".utf8))).lowerBound
        let differences = try recipe.run(["diff", "box", "back.sif"]).output.split(separator: "\n")
        return (differences.filter { !$0.contains("/.singularity.d") }.joined(separator: "\n"), Int(bytes[superblock + 20]))
    }

    private let gzip = 1
    private let zstd = 6

    private func sh(_ script: String) throws {
        try Run.program("/bin/sh", ["-ec", script], as: recipe.identity == .root ? .caller : .ordinaryUser, in: recipe.scratch.path).ok()
    }

    @Test func whatIsUnchangedKeepsItsBlocks() throws {
        let unchanged = try back()
        #expect(unchanged == ("", gzip))
        #expect(try recipe.run(["diff", "base.sif", "back.sif"]).output.contains("/small2") == false)
        // A directory is known by what it is, not by its name.
        try sh("mv box other; mv other box")
        #expect(try back() == ("", gzip))
    }

    /// Whatever a program can do to a file that looks as before.
    @Test func whatIsChangedIsReadAnew() throws {
        try sh(
            """
            cd box
            touch -r small1 time
            printf 'other 1\\n' | dd of=small1 conv=notrunc status=none; touch -r time small1
            printf 'X' | dd of=large bs=1 seek=2999999 conv=notrunc status=none; touch -r time large
            mv small4 moved; mv small5 small4
            cp -p small6 copy; rm small6; mv copy small6
            ln small7 seventh
            rm time
            """)
        python("small8")
        #expect(try back() == ("", gzip))
        #expect(try recipe.text("back.sif", "/same") == "other 1\n")
        #expect(try recipe.text("back.sif", "/small4") == "small 5\n")
        #expect(try recipe.text("back.sif", "/small8") == "SMALL 8\n")
        #expect(try recipe.run(["diff", "base.sif", "back.sif"]).output.contains("M /large"))
    }

    /// Changes a file by a mapping of it.
    private func python(_ name: String) {
        let script = "import mmap; f = open('box/\(name)', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[0:5] = b'SMALL'; m.close()"
        _ = try? Run.program(
            "/usr/bin/python3", ["-c", script], as: recipe.identity == .root ? .caller : .ordinaryUser, in: recipe.scratch.path)
    }

    @Test(arguments: ["rm base.sif", "printf X | dd of=base.sif bs=1 seek=40000 conv=notrunc status=none", "cp base.sif b; mv b base.sif"])
    func anImageThatIsNotTheSameIsNotUsed(_ change: String) throws {
        try sh("touch -r base.sif time; " + change + "; touch -r time base.sif")
        #expect(try back() == ("", zstd))
    }

    @Test func whoWantsAnImageThatDependsOnNothingElseGetsOne() throws {
        #expect(try back(environment: ["SOURCE_DATE_EPOCH": "1700000000"]) == ("", zstd))
        #expect(try back(["--compression", "xz"]).compressor == 4)
        #expect(try back(["--no-layer-cache"]) == ("", zstd))
        // A record that is damaged is none.
        let found = try Run.program("/usr/bin/find", [recipe.scratch.path, "-path", "*/sandboxes/*", "-type", "f"]).output
        let records = found.split(separator: "\n").map(String.init)
        #expect(!records.isEmpty)
        for record in records {
            var bytes = try Data(contentsOf: URL(filePath: record))
            bytes[bytes.count / 2] ^= 1
            try bytes.write(to: URL(filePath: record))
        }
        #expect(try back() == ("", zstd))
    }
}
