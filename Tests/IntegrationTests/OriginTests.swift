import Foundation
import Testing

/// What images say of what is in them and how they were made, and builds that give the same again.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct OriginTests {
    private func json(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    @Test func imagesListWhatIsInThem() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image()
        let list = try place.must("sif", "list", image)
        #expect(list.contains("SBOM (spdx-json)") && list.contains("SBOM (cyclonedx-json)"), "\(list)")
        let expected = try place.must("exec", image, "dpkg-query", "-W", "-f", "${Package} ${Version}\\n").split(separator: "\n")
        let found = try place.must("inspect", "--sbom", "--format", "list", image).split(separator: "\n").filter { $0.hasPrefix("deb ") }
        #expect(Set(found.map { $0.dropFirst(4) }) == Set(expected) && expected.count > 50)
        let spdx = try json(try place.must("inspect", "--sbom", image))
        #expect((spdx["packages"] as? [Any])?.count == expected.count + 1)
        let cyclone = try json(try place.must("inspect", "--sbom", "--format", "cyclonedx", image))
        #expect((cyclone["components"] as? [Any])?.count == expected.count)
        // One without is looked into.
        try place.must("build", "--no-sbom", "without.sif", image)
        let without = try place.must("sif", "list", "without.sif")
        #expect(!without.contains("SBOM"))
        let lists = try ["without.sif", image].map { try place.must("inspect", "--sbom", "--format", "list", $0) }
        #expect(lists[0] == lists[1])
        #expect(try place.run("sbom", "diff", image, "without.sif").status == 0)
        // They are covered by a signature.
        try place.must("sign", "--key", "\(Site.fixtures)/ec-key.pem", image)
        let verified = try place.must("verify", "--key", "\(Site.fixtures)/ec-pub.pem", image)
        #expect(verified.components(separatedBy: "|SBOM").count == 3, "\(verified)")
    }

    /// The validators of those who have written the formats find nothing to complain of.
    @Test(.enabled(if: !Site.clients.isEmpty, "needs scripts/clients.sh")) func validatorsAcceptTheLists() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image()
        try place.scratch.write("a.spdx.json", Array(try place.must("inspect", "--sbom", image).utf8))
        try place.scratch.write("a.cdx.json", Array(try place.must("inspect", "--sbom", "--format", "cyclonedx", image).utf8))
        let script = """
            import json
            from cyclonedx.schema import SchemaVersion
            from cyclonedx.validation.json import JsonStrictValidator
            from spdx_tools.spdx.parser.parse_anything import parse_file
            from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
            document = parse_file("a.spdx.json")
            print(len(document.packages) > 50, [m.validation_message for m in validate_full_spdx_document(document)])
            text = open("a.cdx.json").read()
            version = SchemaVersion.from_version(json.loads(text)["specVersion"])
            print(version.to_version(), JsonStrictValidator(version).validate_str(text))
            """
        let python = Site.clients + "/validators/bin/python"
        let result = try Run.program(python, ["-c", script], as: .ordinaryUser, in: place.scratch.path)
        #expect(result.output == "True []\n1.5 None\n", "\(result)")
    }

    @Test func whatDiffersIsListed() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image()
        try place.scratch.write(
            "a.def",
            Array(
                "Bootstrap: localimage\nFrom: \(image)\n%post\n    mkdir -p /opt/thing-1.0.dist-info\n    printf 'Name: thing\\nVersion: 1.0\\n' > /opt/thing-1.0.dist-info/METADATA\n"
                    .utf8))
        try place.must("build", "new.sif", "a.def")
        let diff = try place.run("sbom", "diff", image, "new.sif")
        #expect(diff.status == 1 && diff.output == "+ pypi thing 1.0\n", "\(diff)")
        let back = try place.run("sbom", "diff", "--json", "new.sif", image)
        #expect(back.output.contains("\"removed\""), "\(back)")
    }

    /// Headers that RPM itself has made, in each of the databases that it has had: SQLite by RPM, the hash by Berkeley DB
    /// (and RPM reads it), openSUSE's as RPM's source lays it down.
    @Test func packagesOfRPMAreFound() throws {
        let place = try Place(as: .ordinaryUser)
        let script = """
            set -e
            top=$PWD/top
            for i in 1 2 3; do
                cat > thing$i.spec <<END
            Name: thing$i
            Version: 1.$i
            Release: 3.el8
            Epoch: 2
            Summary: A thing
            License: MIT
            Vendor: Somebody
            URL: https://thing.example/
            BuildArch: noarch
            %description
            $(head -c $((i * i * i * 700)) /dev/zero | tr '\\0' x | fold -w 60)
            %files
            END
                rpmbuild --quiet -bb --define "_topdir $top" thing$i.spec
            done
            mkdir -p sqlite/var/lib/rpm hash/var/lib/rpm slots/usr/lib/sysimage/rpm
            rpm --dbpath $PWD/sqlite/var/lib/rpm --initdb
            rpm --dbpath $PWD/sqlite/var/lib/rpm -i --nodeps --justdb $(find top -name "*.rpm")
            python3 - <<END
            import sqlite3, struct
            base = sqlite3.connect("sqlite/var/lib/rpm/rpmdb.sqlite")
            base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            rows = list(base.execute("SELECT hnum, blob FROM Packages"))
            with open("dump", "w") as dump:
                dump.write("VERSION=3\\nformat=bytevalue\\ntype=hash\\ndb_pagesize=4096\\nHEADER=END\\n")
                for number, blob in [(0, struct.pack("<I", len(rows)))] + rows:
                    dump.write(" %s\\n %s\\n" % (struct.pack("<I", number).hex(), blob.hex()))
                dump.write("DATA=END\\n")
            slots, blobs, block = b"RpmP" + struct.pack("<IIII", 0, 1, 1, len(rows) + 1) + bytes(12), b"", 256
            for number, blob in rows:
                count = (16 + len(blob) + 12 + 15) // 16
                slots += b"Slot" + struct.pack("<III", number, block, count)
                blobs += (b"BlbS" + struct.pack("<III", number, 1, len(blob)) + blob).ljust(count * 16 - 12, b"\\0")
                blobs += struct.pack("<II", 0, len(blob)) + b"BlbE"
                block += count
            slots += (b"Slot" + bytes(12)) * ((4096 - len(slots)) // 16)
            open("slots/usr/lib/sysimage/rpm/Packages.db", "wb").write(slots + blobs)
            END
            db_load -f dump hash/var/lib/rpm/Packages
            rpm --dbpath $PWD/hash/var/lib/rpm --define "_db_backend bdb_ro" -qa 2>/dev/null | sort
            """
        let made = try Run.program(
            "/bin/sh", ["-c", script], as: .ordinaryUser, environment: ["HOME": place.scratch.path], in: place.scratch.path)
        #expect(made.output == "thing1-1.1-3.el8.noarch\nthing2-1.2-3.el8.noarch\nthing3-1.3-3.el8.noarch\n", "\(made)")
        let list = "rpm thing1 1.1-3.el8\nrpm thing2 1.2-3.el8\nrpm thing3 1.3-3.el8\n"
        for box in ["sqlite", "hash", "slots"] {
            #expect(try place.must("inspect", "--sbom", "--format", "list", box) == list, "\(box)")
        }
        #expect(try place.must("inspect", "--sbom", "hash").contains("epoch=2"))
    }

    @Test func imagesTellHowTheyWereMade() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image("base.sif")
        try place.scratch.write("input", Array("input\n".utf8))
        try place.scratch.write(
            "a.def",
            Array("Bootstrap: localimage\nFrom: \(image)\n%arguments\nV=1\n%files\ninput /opt/input\n%environment\nexport V={{ V }}\n".utf8)
        )
        try place.must("build", "--build-arg", "V=2", "a.sif", "a.def")
        let statement = try json(try place.must("inspect", "--provenance", "a.sif"))
        #expect(statement["_type"] as? String == "https://in-toto.io/Statement/v1")
        #expect(statement["predicateType"] as? String == "https://slsa.dev/provenance/v1")
        let subject = try #require((statement["subject"] as? [[String: Any]])?.first)
        let number = try #require((subject["name"] as? String)?.split(separator: " ").last)
        let digest = try #require((subject["digest"] as? [String: String])?["sha256"])
        let dumped = try place.run("sif", "dump", String(number), "a.sif")
        try dumped.bytes.write(to: URL(filePath: place.scratch.file("partition")))
        let sum = try Run.program("/usr/bin/sha256sum", [place.scratch.file("partition")]).output
        #expect(sum.hasPrefix(digest), "\(sum) \(digest)")
        let definition = try #require((statement["predicate"] as? [String: Any])?["buildDefinition"] as? [String: Any])
        let parameters = try #require(definition["externalParameters"] as? [String: Any])
        #expect(parameters["arguments"] as? [String: String] == ["V": "2"])
        let dependencies = try #require(definition["resolvedDependencies"] as? [[String: Any]])
        let base = try Run.program("/usr/bin/sha256sum", [place.scratch.file("base.sif")]).output.prefix(64)
        #expect((dependencies.first?["digest"] as? [String: String])?["sha256"] == String(base))
        #expect(dependencies.contains { ($0["uri"] as? String)?.hasSuffix("input") ?? false })
    }

    /// Whoever builds it, however their ids are mapped, and whatever is in their caches.
    @Test func twoUsersGetTheSameBytes() throws {
        let recipe =
            "Bootstrap: localimage\nFrom: \(try Site.debian.get())\n%files\ninput /opt/input\n%post\n    mkdir /opt/x\n    date > /dev/null\n    echo text > /opt/x/y\n    chown 33:33 /opt/x/y\n"
        var sums: Set<String> = []
        for (index, (identity, options))
            in ([(Run.Identity.ordinaryUser, []), (.ordinaryUser, ["--ignore-subuid", "--no-layer-cache"]), (.caller, [])]
            as [(Run.Identity, [String])]).enumerated()
        {
            let place = try Place("twoUsers-\(index)", as: identity)
            try place.scratch.write("input", Array("input\n".utf8))
            utimes(place.scratch.file("input"), [timeval(tv_sec: 1_700_000_000, tv_usec: 0), timeval(tv_sec: 1_700_000_000, tv_usec: 0)])
            try place.scratch.write("a.def", Array(recipe.utf8))
            let built = try place.run(["build"] + options + ["a.sif", "a.def"], environment: ["SOURCE_DATE_EPOCH": "1700000000"])
            try #require(built.status == 0, "\(built)")
            sums.insert(String(try Run.program("/usr/bin/sha256sum", [place.scratch.file("a.sif")]).output.prefix(64)))
            sleep(1)
        }
        #expect(sums.count == 1)
    }

    /// Without SOURCE_DATE_EPOCH the base gives the time.
    @Test func theSameInputGivesTheSameBytesLater() throws {
        let recipe =
            "Bootstrap: localimage\nFrom: \(try Site.debian.get())\n%post\n    echo text > /opt/y\n    test -n \"$SOURCE_DATE_EPOCH\"\n"
        var sums: Set<String> = []
        for (index, identity) in [Run.Identity.ordinaryUser, .caller].enumerated() {
            let place = try Place("theSameInput-\(index)", as: identity)
            try place.scratch.write("a.def", Array(recipe.utf8))
            // The first by the option, the second by the configuration.
            let configuration = try place.scratch.write("singularity.conf", Array("reproducible builds = yes\n".utf8))
            let built = try place.run(
                index == 0 ? ["build", "--reproducible", "a.sif", "a.def"] : ["--config", configuration, "build", "a.sif", "a.def"])
            try #require(built.status == 0, "\(built)")
            sums.insert(String(try Run.program("/usr/bin/sha256sum", [place.scratch.file("a.sif")]).output.prefix(64)))
            // What was kept without the option is of no use with it.
            let plain = try place.run("build", "b.sif", "a.def")
            #expect(plain.status == 255 && plain.error.contains("test -n"), "\(plain)")
            sleep(1)
        }
        #expect(sums.count == 1)
        let place = try Place("theSameInput-scratch", as: .ordinaryUser)
        try place.scratch.write("s.def", Array("Bootstrap: scratch\n%setup\n    true\n".utf8))
        let refused = try place.run("build", "--reproducible", "s.sif", "s.def")
        #expect(refused.status == 255 && refused.error.contains("SOURCE_DATE_EPOCH"), "\(refused)")
    }

    /// A base that is named by its digest, two users and two caches, and no option.
    @Test func aPinnedRecipeGivesTheSameBytesLater() throws {
        let address = "\(Site.registry)/debian"
        let seen = try Run.program("/usr/bin/skopeo", ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://\(address)"])
        let digest = seen.output.trimmingCharacters(in: .newlines)
        var sums: Set<String> = []
        var last: Place?
        for (index, identity) in [Run.Identity.ordinaryUser, .caller].enumerated() {
            let place = try Place("aPinnedRecipe-\(index)", as: identity)
            let recipe = "Bootstrap: docker\nFrom: \(address)@\(digest)\n%post\n    echo text > /opt/y; echo said\n"
            try place.scratch.write("a.def", Array(recipe.utf8))
            let built = try place.run(
                "build", "a.sif", "a.def", environment: ["SINGULARITY_CACHEDIR": place.scratch.file("cache"), "SINGULARITY_NO_HTTPS": "1"])
            try #require(built.status == 0, "\(built)")
            sums.insert(String(try Run.program("/usr/bin/sha256sum", [place.scratch.file("a.sif")]).output.prefix(64)))
            #expect(try place.must("inspect", "--build-log", "a.sif").contains("said"))
            last = place
            sleep(1)
        }
        #expect(sums.count == 1)
        // Who does not want it has the times at which files were made.
        let place = try #require(last)
        for words in [["build", "--reproducible=false", "b.sif", "a.def"], ["--config", "no.conf", "build", "c.sif", "a.def"]] {
            try place.scratch.write("no.conf", Array("reproducible builds = no\n".utf8))
            let built = try place.run(words, environment: ["SINGULARITY_NO_HTTPS": "1"])
            try #require(built.status == 0, "\(built)")
            let made = try place.must("exec", words[words.count - 2], "stat", "-c", "%Y", "/opt/y")
            #expect(abs((Double(made.trimmingCharacters(in: .newlines)) ?? 0) - Date().timeIntervalSince1970) < 600, "\(words): \(made)")
        }
    }

    @Test func aBuildIsComparedWithWhatItShouldGive() throws {
        let place = try Place(as: .ordinaryUser)
        let recipe = "Bootstrap: localimage\nFrom: \(try Site.debian.get())\n%post\n    echo one > /opt/file\n"
        try place.scratch.write("a.def", Array(recipe.utf8))
        let built = try place.run("build", "a.sif", "a.def", environment: ["SOURCE_DATE_EPOCH": "1700000000"])
        try #require(built.status == 0, "\(built)")
        let same = try place.run("build", "--verify-against", "a.sif", "a.def")
        #expect(same.status == 0 && same.output == "same: a.def gives a.sif\n", "\(same)")
        // A signature is no difference.
        try place.must("sign", "--key", "\(Site.fixtures)/ec-key.pem", "a.sif")
        #expect(try place.run("build", "--verify-against", "a.sif", "a.def").status == 0)
        try place.scratch.write("b.def", Array(recipe.replacingOccurrences(of: "one", with: "two").utf8))
        let different = try place.run("build", "--verify-against", "a.sif", "b.def")
        #expect(different.status == 1 && different.output.contains("/opt/file: changed"), "\(different)")
        #expect(place.scratch.names == ["a.def", "a.sif", "b.def", "conf"])
    }
}
