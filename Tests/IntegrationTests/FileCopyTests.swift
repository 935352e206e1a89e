import Foundation
import Testing

/// `%files`, from the host and from other stages.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct FileCopyTests {
    @Test func filesGoWhereCpWouldPutThem() throws {
        let recipe = try Recipe()
        let setup = """
            cd "$1"; mkdir -p d/sub; echo 1 > one.txt; echo 2 > two.txt; echo s > 'a b'; echo x > d/sub/x; ln -s sub/x d/link
            chmod -R a+rX .; chmod 705 one.txt
            """
        #expect(try Run.program("/bin/sh", ["-c", setup, "sh", recipe.scratch.path]).status == 0)
        let result = try recipe.build(
            "a.sif",
            try Recipe.header + """
                %files
                    # a comment
                    one.txt /renamed
                    *.txt /etc
                    "a b" "/with blank/"
                    d /copied
                    d /etc/
                    {one,two}.txt /braces/
                    one.txt
                """)
        #expect(result.status == 0, "\(result)")
        let names = Set(try recipe.listing("a.sif").compactMap { $0.components(separatedBy: " ").dropFirst(2).first })
        for name in [
            "/renamed", "/etc/one.txt", "/etc/two.txt", "/copied/sub/x", "/copied/link", "/etc/d/sub/x", "/braces/one.txt",
            "/braces/two.txt", "/one.txt",
        ] {
            #expect(names.contains(name), "\(name)")
        }
        #expect(try recipe.text("a.sif", "/with blank/a b") == "s\n")
        // Links are followed, modes are kept, and all is root's.
        #expect(try recipe.listing("a.sif", "/copied/link") == ["-rw-r--r-- 0/0 /copied/link"])
        #expect(try recipe.listing("a.sif", "/renamed") == ["-rwx---r-x 0/0 /renamed"])
    }

    @Test func aLinkOfTheImageLeadsNowhereOutside() throws {
        let recipe = try Recipe()
        try recipe.scratch.write("evil", Array("evil".utf8))
        mkdir(recipe.file("outside"), 0o777)
        chmod(recipe.file("outside"), 0o777)
        let header =
            try Recipe.header + "%post\n ln -s \(recipe.file("outside")) /out; ln -s ../../../../../../\(recipe.file("outside")) /up\n"
        #expect(try recipe.build("base.sif", header).status == 0)
        let result = try recipe.build(
            "a.sif", "Bootstrap: localimage\nFrom: base.sif\n%files\n evil /out/evil\n evil /up/evil2\n%environment\n export A=1\n")
        #expect(result.status == 0, "\(result)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: recipe.file("outside")).isEmpty)
        #expect(try recipe.listing("a.sif").contains { $0.hasSuffix("/outside/evil") })
    }

    @Test(arguments: Recipe.Builder.possible)
    func stagesGiveFilesToLaterOnes(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        let base = try Recipe.busybox.get()
        let result = try recipe.build(
            "a.sif",
            """
            Bootstrap: localimage
            From: \(base)
            Stage: build
            %post
                mkdir -p /opt/out; echo built > /opt/out/program; chmod 755 /opt/out/program; chown 3:4 /opt/out/program
                ln -s program /opt/out/link; echo e > /opt/extra1; echo e > /opt/extra2
            %test
                test -f /opt/out/program && echo stage tested

            Bootstrap: localimage
            From: \(base)
            Stage: final
            %files from build
                /opt/out
                /opt/out/program /usr/local/bin/
                /opt/extra* /etc
            %post
                /bin/cat /usr/local/bin/program
            """)
        #expect(result.status == 0, "\(result)")
        #expect(result.output.contains("stage tested\n") && result.output.contains("built\n"))
        let listing = try recipe.listing("a.sif")
        for line in ["-rwxr-xr-x 3/4 /opt/out/program", "-rwxr-xr-x 3/4 /usr/local/bin/program", "-rw-r--r-- 0/0 /etc/extra2"] {
            #expect(listing.contains(line), "\(line)")
        }
        #expect(listing.contains { $0.hasPrefix("lrwxrwxrwx") && $0.contains("/opt/out/link") })
        // The whole recipe is kept.
        #expect(try recipe.run(["inspect", "--deffile", recipe.file("a.sif")]).output.contains("Stage: build"))
    }

    @Test(arguments: [
        ("%files\n nothing-there /x\n", "while copying nothing-there"),
        ("%files\n /etc/passwd /bin/busybox/x\n", "while copying /etc/passwd"),
        ("%files from nowhere\n /x\n", "stage nowhere was not found"), ("%files\n /dev/null /x\n", "neither a file nor a directory"),
    ])
    func mistakesAreNamedWithTheirLine(_ text: String, _ message: String) throws {
        let recipe = try Recipe()
        let result = try recipe.build("a.sif", try Recipe.header + text)
        #expect(result.status == 255)
        #expect(result.error.contains(message) && result.error.contains(".def:"), "\(result)")
        #expect(!recipe.scratch.names.contains("a.sif") && recipe.leftovers.isEmpty)
    }
}
