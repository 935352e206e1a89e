import Foundation
import Testing

/// Images are made where there is little of everything.
@Suite(.enabled(if: Site.isPrepared && SmallGroup.isPossible, "needs scripts/test.sh, root and writable control groups"))
struct FrugalityTests {
    /// A tree of 190 MB and more, a tenth of that for temporary files, and a job of 200 MiB on two processors.
    @Test func anImageIsMadeWithLittleMemoryAndTemporarySpace() throws {
        let scratch = try Scratch()
        let small = scratch.file("small")
        try FileManager.default.createDirectory(atPath: small, withIntermediateDirectories: true)
        try #require(try Run.program("/bin/mount", ["-t", "tmpfs", "-o", "size=16m,mode=1777", "none", small]).status == 0)
        defer { _ = try? Run.program("/bin/umount", [small]) }
        let variables = ["TMPDIR": small, "SINGULARITY_CACHEDIR": scratch.file("cache"), "SINGULARITY_NOHTTPS": "1"]
        try scratch.write("a.def", Array("Bootstrap: localimage\nFrom: a.sif\n%post\n    echo made > /made\n".utf8))
        let address = "docker://\(Site.registry)/debian:latest"
        let commands = [["pull", "a.sif", address], ["build", "b.sif", "a.def"], ["build", "c.tar", "b.sif"]]
        for words in commands {
            let group = try #require(SmallGroup())
            defer { group.remove() }
            let result = try group.run(words, environment: variables, in: scratch.path)
            #expect(result.status == 0, "\(words): \(result)")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: small).isEmpty)
        let made = try Run.program("/bin/tar", ["-xOf", scratch.file("c.tar"), "made"])
        let other = try Run.program("/bin/tar", ["-xOf", scratch.file("c.tar"), "./made"])
        #expect(made.output + other.output == "made\n", "\(made) \(other)")
    }
}
