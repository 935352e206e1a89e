import Foundation
import Testing

/// Every target from every source.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct ConversionTests {
    private static let sources = [
        "s.sif", "s.sqfs", "sandbox", "s.tar", "s.tar.gz", "s.tar.xz", "s.tar.bz2", "s.tar.zst", "oci:layout:latest", "oci-archive:o.tar",
        "docker-archive:d.tar", "old.img", "bare.img",
    ]
    private static let targets = ["t.sif", "t.sqfs", "--sandbox t", "oci:tl", "oci-archive:to.tar", "t.tar", "t.tar.gz"]

    /// One of each kind, with the same files in them.
    private func makeSources(_ recipe: Recipe) throws {
        let first = try recipe.build(
            "s.sif",
            try Recipe.header
                + "%environment\n export WHO=me\n%runscript\n echo \"$WHO ran\"\n%post\n mkdir /d; echo x > /d/x; chown 4:5 /d/x; ln /d/x /d/y; ln -s x /d/l; chmod 700 /d; mkfifo /d/p\n"
        )
        #expect(first.status == 0, "\(first)")
        for words in [["s.sqfs"], ["--sandbox", "sandbox"], ["s.tar"], ["oci:layout:latest"], ["oci-archive:o.tar"]] {
            let result = try recipe.run(["build"] + words + ["s.sif"])
            #expect(result.status == 0, "\(words): \(result)")
        }
        let script = """
            cd "$1"; gzip -k s.tar; xz -k s.tar; bzip2 -k s.tar; zstd -q s.tar || "$2" build s.tar.zst s.sif
            skopeo copy --quiet oci:layout:latest docker-archive:d.tar:a:latest
            truncate -s 16M e.img; mkdir root; tar -C root -xf s.tar 2>/dev/null
            mkfs.ext3 -q -d root e.img; cp e.img bare.img; printf '#!/usr/bin/env run-singularity\\n' > old.img; cat e.img >> old.img
            chmod a+r *
            """
        let made = try Run.program("/bin/sh", ["-c", script, "sh", recipe.scratch.path, Site.program])
        #expect(made.status == 0, "\(made)")
    }

    @Test func everyTargetCanBeMadeOfEverySource() throws {
        let recipe = try Recipe()
        try makeSources(recipe)
        for source in Self.sources {
            for target in Self.targets {
                let words = target.split(separator: " ").map(String.init)
                let result = try recipe.run(["build", "--force"] + words + [source])
                #expect(result.status == 0, "\(target) of \(source): \(result)")
                // Each target is read back and compared with the first image.
                let name = words.last ?? ""
                let back = try recipe.run(["build", "--force", "back.sif", name])
                #expect(back.status == 0, "\(target) of \(source): \(back)")
                let differences = try recipe.run(["diff", recipe.file("s.sif"), recipe.file("back.sif")]).output.split(separator: "\n")
                    .filter {
                        !$0.contains("/.singularity.d") && !$0.contains(" /lost+found")
                    }
                // An archive that was unpacked by an ordinary user has that user's files.
                let isLossy = source.hasSuffix(".img") && !Site.isRoot
                #expect(differences.isEmpty || isLossy, "\(target) of \(source): \(differences)")
                let run = try recipe.run(["run", recipe.file("back.sif")])
                #expect(run.output == "me ran\n", "\(target) of \(source): \(run)")
            }
        }
        #expect(recipe.leftovers.isEmpty)
    }

    @Test func otherProgramsReadTheExports() throws {
        let recipe = try Recipe()
        try makeSources(recipe)
        let list = try Run.program("/bin/tar", ["--numeric-owner", "-tvf", recipe.file("s.tar")]).output
        #expect(list.contains("-rw-r--r-- 4/5") && list.contains("d/y link to d/x"), "\(list)")
        let inspect = try Run.program("/usr/bin/skopeo", ["inspect", "--config", "oci:\(recipe.file("layout")):latest"])
        #expect(inspect.status == 0 && inspect.output.contains("WHO=me"), "\(inspect)")
        let check = try Run.program("/usr/bin/umoci", ["stat", "--image", "\(recipe.file("layout")):latest"])
        #expect(check.status == 0, "\(check)")
        // Without a tag the image is meant, not what refers to it.
        let again = try recipe.run(["build", "again.sif", "oci:layout"])
        #expect(again.status == 0, "\(again)")
        // A layout with a tag has lists of what is in the image, which refer to it.
        struct Manifest: Decodable {
            struct Entry: Decodable {
                var digest: String
                var artifactType: String?
            }
            var manifests: [Entry]?
            var subject: Entry?
            var layers: [Entry]?
        }
        func read(_ path: String) throws -> Manifest {
            try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: URL(filePath: recipe.file("layout/" + path))))
        }
        func blob(_ digest: String) -> String { "blobs/sha256/" + digest.dropFirst(7) }
        let index = try #require(try read("index.json").manifests)
        #expect(index.map(\.artifactType) == [nil, "application/spdx+json", "application/vnd.cyclonedx+json"])
        for (entry, start) in zip(index.dropFirst(), ["{\"spdxVersion\":", "{\"bomFormat\":"]) {
            let manifest = try read(blob(entry.digest))
            #expect(manifest.subject?.digest == index[0].digest, "\(entry)")
            let document = try String(
                contentsOfFile: recipe.file("layout/" + blob(try #require(manifest.layers?.first).digest)), encoding: .utf8)
            #expect(document.hasPrefix(start))
        }
    }

    @Test(arguments: Recipe.Builder.possible)
    func aSandboxCanBeChangedAndBecomesAnImage(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        #expect(try recipe.build("s.sif", try Recipe.header + "%post\n echo 1 > /o; chown 9:9 /o; mknod /null c 1 3\n").status == 0)
        let made = try recipe.run(["build", "--sandbox", "box", "s.sif"])
        #expect(made.status == 0, "\(made)")
        let changed = try recipe.run(["exec", "--writable", recipe.file("box"), "/bin/sh", "-c", "echo new > /new; rm /o"])
        #expect(changed.status == 0, "\(changed)")
        let updated = try recipe.build(
            "box", "Bootstrap: scratch\n%post\n echo more > /more; chown 3:3 /more\n", options: ["--sandbox", "--update"])
        #expect(updated.status == 0, "\(updated)")
        #expect(try recipe.run(["build", "t.sif", "box"]).status == 0)
        let listing = try recipe.listing("t.sif")
        for line in ["-rw-r--r-- 3/3 /more", "crw-r--r-- 0/0 1,3 /null"] { #expect(listing.contains(line), "\(line)") }
        #expect(listing.contains { $0.hasSuffix(" /new") } && !listing.contains { $0.hasSuffix(" /o") })
        let removal = try Run.program("/bin/rm", ["-rf", recipe.file("box")], as: builder == .root ? .caller : .ordinaryUser)
        #expect(removal.status == 0 && !recipe.scratch.names.contains("box"))
    }

    @Test func dataStaysWhatItIs() throws {
        let recipe = try Recipe()
        let setup = "cd \"$1\"; mkdir -p data/sub; echo 1 > data/sub/one; chmod -R a+rX data"
        #expect(try Run.program("/bin/sh", ["-c", setup, "sh", recipe.scratch.path]).status == 0)
        let result = try recipe.run(["build", "data.sqfs", "data"])
        #expect(result.status == 0, "\(result)")
        let list = try Run.program("/usr/bin/unsquashfs", ["-l", recipe.file("data.sqfs")]).output
        #expect(
            list.split(separator: "\n").filter { $0.hasPrefix("squashfs-root") }
                == ["squashfs-root", "squashfs-root/sub", "squashfs-root/sub/one"], "\(list)")
    }

    @Test func aDamagedOldImageIsRefused() throws {
        let recipe = try Recipe()
        try makeSources(recipe)
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: recipe.file("bare.img"))))
        for seed in 0..<12 {
            var state = UInt64(seed + 1) &* 0x9E37_79B9_7F4A_7C15
            for _ in 0..<400 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                bytes[2048 + Int(state >> 33) % (bytes.count - 2048)] = UInt8(truncatingIfNeeded: state >> 20)
            }
            try recipe.scratch.write("bad.img", bytes)
            let result = try recipe.run(["build", "--force", "bad.sif", "bad.img"])
            // Whatever it makes of it, it neither crashes nor hangs.
            #expect([0, 255].contains(result.status), "\(result)")
        }
        #expect(recipe.leftovers.isEmpty)
    }

    @Test func imageFilesComeFromRegistriesAsTheyAre() throws {
        let recipe = try Recipe()
        let image = try Recipe.busybox.get()
        let script = """
            import sys, hashlib, json, urllib.request as web
            base = "http://%s/v2/art/ifact" % sys.argv[1]
            def put(data):
                digest = "sha256:" + hashlib.sha256(data).hexdigest()
                place = web.urlopen(web.Request(base + "/blobs/uploads/", method="POST", data=b"")).headers["Location"]
                place += ("&" if "?" in place else "?") + "digest=" + digest
                web.urlopen(web.Request(place, method="PUT", data=data, headers={"Content-Type": "application/octet-stream"}))
                return digest
            sif = open(sys.argv[2], "rb").read()
            manifest = {"schemaVersion": 2, "config": {"mediaType": "application/vnd.sylabs.sif.config.v1+json", "digest": put(b"{}"), "size": 2},
                "layers": [{"mediaType": "application/vnd.sylabs.sif.layer.v1.sif", "digest": put(sif), "size": len(sif)}]}
            web.urlopen(web.Request(base + "/manifests/v1", method="PUT", data=json.dumps(manifest).encode(),
                headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"}))
            """
        try recipe.scratch.write("push.py", Array(script.utf8))
        let pushed = try Run.program("/usr/bin/env", ["python3", recipe.file("push.py"), Site.registry, image])
        #expect(pushed.status == 0, "\(pushed)")
        let address = "oras://\(Site.registry)/art/ifact:v1"
        let pulled = try recipe.run(["pull", "p.sif", address])
        #expect(pulled.status == 0 && FileManager.default.contentsEqual(atPath: recipe.file("p.sif"), andPath: image), "\(pulled)")
        #expect(try recipe.run(["exec", address, "echo", "hi"]).output == "hi\n")
        let built = try recipe.build("b.sif", "Bootstrap: oras\nFrom: \(Site.registry)/art/ifact:v1\n%post\n echo x > /x\n")
        #expect(built.status == 0, "\(built)")
        #expect(try recipe.text("b.sif", "/x") == "x\n")
        let container = try recipe.run(["pull", "c.sif", "oras://\(Site.registry)/debian:latest"])
        #expect(container.status == 255 && container.error.contains("fetched with docker://"), "\(container)")
        let library = try recipe.run(["pull", "l.sif", "library://a/b/c"])
        #expect(library.status == 255 && library.error.contains("no container library is set"), "\(library)")
    }
}
