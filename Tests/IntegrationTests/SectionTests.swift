import Foundation
import Testing

/// What sections of definition files do, with and without root, and with and without subordinate ids.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct SectionTests {
    @Test(arguments: Recipe.Builder.possible)
    func ownersModesDevicesAndCapabilitiesReachTheImage(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        let debian = try Site.debian.get()
        let result = try recipe.build(
            "a.sif",
            """
            Bootstrap: localimage
            From: \(debian)
            %post
                useradd --create-home --uid 1234 joe
                mkdir /t; cd /t
                echo a > owned; chown 42:43 owned
                cp /bin/true setuid; chown 0:44 setuid; chmod 4755 setuid
                ln -s owned link; chown --no-dereference 7:8 link
                mknod null c 1 3; mknod disk b 8 17; chown 0:6 disk; mkfifo pipe
                mkdir -m 1770 folder; chown 99:99 folder
                echo b > kept; chown 42:42 kept; mv kept moved; ln moved second; sed -i s/b/c/ moved
                cp /bin/true ping
                python3 -c 'import os; os.setxattr("ping", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))'
                stat -c %u:%g owned link folder second
            """)
        #expect(result.status == 0, "\(result)")
        #expect(result.output.contains("42:43\n7:8\n99:99\n"), "\(result.output)")
        let listing = try recipe.listing("a.sif", "/t")
        #expect(
            Set(listing.map { $0.split(separator: " -> ")[0] }) == [
                "drwxr-xr-x 0/0 /t", "-rw-r--r-- 42/43 /t/owned", "-rwsr-xr-x 0/44 /t/setuid", "lrwxrwxrwx 7/8 /t/link",
                "crw-r--r-- 0/0 1,3 /t/null", "brw-r--r-- 0/6 8,17 /t/disk", "prw-r--r-- 0/0 /t/pipe", "drwxrwx--T 99/99 /t/folder",
                "-rw-r--r-- 42/42 /t/moved", "-rw-r--r-- 42/42 /t/second", "-rwxr-xr-x 0/0 /t/ping",
            ], "\(listing)")
        #expect(try recipe.listing("a.sif", "/home/joe").contains("drwxr-xr-x 1234/1234 /home/joe"))
        #expect(try recipe.listing("a.sif", "/etc/shadow") == ["-rw-r----- 0/42 /etc/shadow"])
        let capability = try Run.program(
            "/bin/sh",
            [
                "-c",
                "unsquashfs -q -n -o \(try Site.offset(of: recipe.file("a.sif"))) -d out a.sif t/ping >/dev/null; getfattr -e hex -n security.capability out/t/ping",
            ], in: recipe.scratch.path)
        if Site.isRoot { #expect(capability.output.contains("0x01000002002000000000000000000000"), "\(capability)") }
        #expect(recipe.leftovers.isEmpty)
    }

    @Test(arguments: Recipe.Builder.possible)
    func programsBecomeOtherUsers(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        let result = try recipe.build(
            "a.sif",
            """
            Bootstrap: localimage
            From: \(try Site.debian.get())
            %post
                mkdir /t; chmod 777 /t
                python3 - <<EOF
                import os
                os.setgroups([5, 6]); os.setresgid(7, 7, 7); os.setresuid(8, 8, 8)
                print(os.getresuid(), os.getresgid(), os.getgroups())
                open("/t/made", "w").write("x")
                os.mkdir("/t/dir")
                print(os.stat("/t/made").st_uid, os.stat("/t/dir").st_gid)
                child = os.popen("id -u").read().strip()
                print("child", child)
                try:
                    os.setuid(0)
                    print("root again")
                except PermissionError:
                    print("refused")
                EOF
            """.replacingOccurrences(of: "\n    ", with: "\n"))
        #expect(result.status == 0, "\(result)")
        #expect(result.output.contains("(8, 8, 8) (7, 7, 7) [5, 6]\n8 7\nchild 8\nrefused\n"), "\(result.output)")
        #expect(try recipe.listing("a.sif", "/t").sorted() == ["-rw-r--r-- 8/7 /t/made", "drwxr-xr-x 8/7 /t/dir", "drwxrwxrwx 0/0 /t"])
    }

    @Test(arguments: Recipe.Builder.possible)
    func packagesOfDebianInstall(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        // A package with an account, a setuid program and a set-group-id program, without a network.
        let package = """
            set -e
            cd "$1"; mkdir -p p/DEBIAN p/usr/bin p/var/lib/thing
            cp /bin/true p/usr/bin/thing; chmod 4755 p/usr/bin/thing
            printf 'Package: thing\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: thing\\n' > p/DEBIAN/control
            printf '#!/bin/sh\\nset -e\\nadduser --system --group --home /var/lib/thing --no-create-home thing || useradd -r -U -d /var/lib/thing thing\\nchown thing:thing /var/lib/thing\\nchmod 2750 /var/lib/thing\\nsu thing -s /bin/sh -c "id -un > /var/lib/thing/who"\\n' > p/DEBIAN/postinst
            chmod 755 p/DEBIAN/postinst
            dpkg-deb --root-owner-group --build p thing.deb >/dev/null
            """
        #expect(try Run.program("/bin/sh", ["-c", package, "sh", recipe.scratch.path]).status == 0)
        let result = try recipe.build(
            "a.sif",
            "Bootstrap: localimage\nFrom: \(try Site.debian.get())\n%files\n\(recipe.file("thing.deb")) /thing.deb\n%post\ndpkg -i /thing.deb\ncat /var/lib/thing/who\n"
        )
        #expect(result.status == 0, "\(result)")
        #expect(result.output.contains("thing\n"), "\(result)")
        let listing = try recipe.listing("a.sif", "/var/lib/thing")
        let owner = listing.first?.split(separator: " ").dropFirst().first ?? ""
        #expect(listing.count == 2 && !owner.hasPrefix("0/"), "\(listing)")
        #expect(listing.contains("drwxr-s--- \(owner) /var/lib/thing"), "\(listing)")
        #expect(try recipe.listing("a.sif", "/usr/bin/thing") == ["-rwsr-xr-x 0/0 /usr/bin/thing"])
    }

    @Test(arguments: Recipe.Builder.possible)
    func realSoftwareInstallsAndRuns(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        try recipe.scratch.write(
            "r.def",
            Array(
                """
                Bootstrap: localimage
                From: \(try Site.debian.get())
                %post
                    export DEBIAN_FRONTEND=noninteractive
                    apt-get -qq update
                    apt-get -qq install -y --no-install-recommends python3-numpy postgresql openmpi-bin openssh-client sudo
                %test
                    python3 -c 'import numpy; print(numpy.arange(4).sum())'
                    mpirun --oversubscribe -n 2 echo rank
                """.utf8))
        let words = builder == .recorded ? ["build", "--ignore-subuid", "a.sif", "r.def"] : ["build", "a.sif", "r.def"]
        let result = try Run.program(
            Site.program, words, as: builder == .root ? .caller : .ordinaryUser,
            environment: recipe.variables(["OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"]), in: recipe.scratch.path,
            timeout: 400)
        #expect(
            result.status == 0 && result.output.contains("6\nrank\nrank\n"), "\(result.output.suffix(2000)) \(result.error.suffix(2000))")
        // The package has made its account and, as that account, its database.
        let passwd = try recipe.text("a.sif", "/etc/passwd").split(separator: "\n").first { $0.hasPrefix("postgres:") }
        let fields = try #require(passwd).split(separator: ":")
        let listing = try recipe.listing("a.sif", "/var/lib/postgresql/15/main")
        #expect(listing.count > 900 && listing.allSatisfy { $0.contains(" \(fields[2])/\(fields[3]) ") }, "\(listing.prefix(5))")
        #expect(try recipe.listing("a.sif", "/usr/bin/ssh-agent").first?.hasPrefix("-rwxr-sr-x 0/") == true)
        #expect(try recipe.listing("a.sif", "/usr/bin/sudo") == ["-rwsr-xr-x 0/0 /usr/bin/sudo"])
    }

    @Test(arguments: Recipe.Builder.possible)
    func theTreeIsTheSameWhoeverBuilds(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        let text = try Recipe.header + "%post\n echo a > /a; chown 1:2 /a; rm /bin/vi; mkdir /b; mv /etc/group /b; ln -s x /l\n"
        let result = try recipe.build("a.sif", text)
        #expect(result.status == 0, "\(result)")
        let listing = try recipe.listing("a.sif")
        #expect(listing.contains("-rw-r--r-- 1/2 /a") && listing.contains("-rw-r--r-- 0/0 /b/group"))
        #expect(!listing.contains { $0.hasSuffix(" /etc/group") || $0.contains("/bin/vi ") || $0.hasPrefix("c") && $0.contains("0,0") })
    }

    // MARK: Scripts

    @Test func sectionsHaveTheirEnvironmentAndLeaveSome() throws {
        let recipe = try Recipe()
        let result = try recipe.build(
            "a.sif",
            """
            \(try Recipe.header)%environment
                export NAME=world
            %labels
                Quoted "a b"
                Empty
            %help
                some help
            %post
                echo "home $HOME pwd $PWD zero $0"
                echo 'export MORE="hello $NAME"' >> $SINGULARITY_ENVIRONMENT
                echo 'Made by post' >> $APPTAINER_LABELS
            %runscript
                echo "$MORE:$*"
            %test

                #!/bin/sh -e
                [ "$MORE" = "hello world" ] && echo tested
            """)
        #expect(result.status == 0, "\(result)")
        #expect(result.output.contains("home /root pwd / zero /.post.script\n"), "\(result)")
        #expect(result.output.contains("tested\n"))
        let run = try recipe.run(["run", recipe.file("a.sif"), "x", "y z"])
        #expect(run.output == "hello world:x y z\n", "\(run)")
        let labels = try recipe.run(["inspect", recipe.file("a.sif")]).output
        #expect(labels.contains("Quoted: \"a b\"\n") && labels.contains("Empty: \n") && labels.contains("Made: by post\n"), "\(labels)")
        #expect(try recipe.run(["run-help", recipe.file("a.sif")]).output == "    some help\n")
        #expect(try recipe.run(["inspect", "--deffile", recipe.file("a.sif")]).output.contains("export NAME=world"))
        #expect(try recipe.run(["inspect", "--build-log", recipe.file("a.sif")]).output.contains("home /root"))
        #expect(!(try recipe.listing("a.sif").contains { $0.contains(".build.labels") || $0.contains(".post.script") }))
    }

    @Test func postTakesAnotherInterpreter() throws {
        let recipe = try Recipe()
        let result = try recipe.build("a.sif", try Recipe.header + "%post -c /bin/ash -e\n echo \"${0##*/}\"\n")
        #expect(result.status == 0 && result.output.contains(".post.script\n"), "\(result)")
    }

    @Test(arguments: Recipe.Builder.possible)
    func setupSeesTheHostAndTheTree(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        try recipe.scratch.write("input", Array("one".utf8))
        let text =
            try Recipe.header
            + "%pre\n echo pre > pre.out\n%setup\n cp \(recipe.file("input")) $SINGULARITY_ROOTFS/from-host\n chown 5:6 $APPTAINER_ROOTFS/from-host\n%post\n cat /from-host\n"
        var result = try recipe.build("a.sif", text)
        #expect(result.status == 0 && result.output.contains("one"), "\(result)")
        #expect(try recipe.listing("a.sif", "/from-host") == ["-rw-r--r-- 5/6 /from-host"])
        #expect(recipe.scratch.names.contains("pre.out"))
        // What it read is no part of the recipe; what it made is.
        try recipe.scratch.write("input", Array("two".utf8))
        result = try recipe.build("a.sif", text, options: ["--force"])
        #expect(result.output.contains("two"), "\(result)")
    }

    @Test func theBuildSeesBindsAndTheHostsNames() throws {
        let recipe = try Recipe()
        try recipe.scratch.write("data", Array("bound".utf8))
        try recipe.scratch.write("hosts", [UInt8](try Data(contentsOf: URL(filePath: "/etc/hosts"))))
        let result = try recipe.build(
            "a.sif", try Recipe.header + "%post\n cat /mnt/x/data; cmp /etc/hosts /mnt/x/hosts\n",
            options: ["--bind", "\(recipe.scratch.path):/mnt/x:ro"])
        #expect(result.status == 0 && result.output.contains("bound"), "\(result)")
        // The name server of the host is no part of the image.
        #expect(try recipe.text("a.sif", "/.singularity.d/Singularity").contains("cat /mnt/x"))
        #expect(try recipe.listing("a.sif", "/etc/resolv.conf").count == 1)
    }

    @Test(.enabled(if: Site.isRoot, "needs root to hide /dev/fuse"))
    func withoutFuseSectionsRunInAnUnpackedCopy() throws {
        let recipe = try Recipe()
        let text = try Recipe.header + "%post\n echo x > /x; chown 6:7 /x; chmod 666 /x\n"
        try recipe.scratch.write("r.def", Array(text.utf8))
        // A mount namespace in which the device is something else.
        let script =
            "mount --bind /dev/null /dev/fuse && exec setpriv --reuid \(Site.user) --regid \(Site.user) --init-groups \(Site.program) build --ignore-subuid a.sif r.def"
        let result = try Run.program(
            "/usr/bin/unshare", ["-m", "sh", "-c", script],
            environment: recipe.variables(["HOME": "/home/\(Site.user)"]), in: recipe.scratch.path)
        #expect(result.status == 0 && result.error.contains("unpacked copy"), "\(result)")
        #expect(try recipe.listing("a.sif", "/x") == ["-rw-rw-rw- 6/7 /x"])
        let normal = try recipe.build("b.sif", text, options: ["--no-layer-cache"])
        #expect(normal.status == 0, "\(normal)")
        let difference = try recipe.run(["diff", recipe.file("a.sif"), recipe.file("b.sif")]).output
        #expect(difference.split(separator: "\n").allSatisfy { $0.contains("labels.json") }, "\(difference)")
    }

    @Test func namesNeedNotBeText() throws {
        let recipe = try Recipe()
        let result = try recipe.build(
            "a.sif", try Recipe.header + "%post\n cd /; echo latin > \"$(printf 'caf\\351')\"; ln -s \"$(printf '\\377')\" odd\n")
        #expect(result.status == 0, "\(result)")
        #expect(try recipe.run(["build", "--sandbox", "box", "a.sif"]).status == 0)
        #expect(try recipe.run(["build", "b.sif", "box"]).status == 0)
        #expect(
            try recipe.run(["diff", recipe.file("a.sif"), recipe.file("b.sif")]).output.split(separator: "\n").allSatisfy {
                $0.contains("/.singularity.d")
            })
        let inside = try recipe.run(["exec", recipe.file("b.sif"), "/bin/sh", "-c", "cat /caf*"])
        #expect(inside.output == "latin\n", "\(inside)")
    }

    @Test func whatASectionLeavesRunningEndsWithIt() throws {
        let recipe = try Recipe()
        let marker = "3\(UInt32.random(in: 100_000...999_999))"
        let result = try recipe.build("a.sif", try Recipe.header + "%post\n sleep \(marker) &\n echo done\n")
        #expect(result.status == 0 && result.output.contains("done"), "\(result)")
        #expect(try Run.program("/usr/bin/pgrep", ["-f", "^sleep \(marker)"]).status == 1)
    }

    @Test func appsHaveFoldersScriptsAndLabels() throws {
        let recipe = try Recipe()
        try recipe.scratch.write("tool", Array("#!/bin/sh\necho tool\n".utf8))
        let result = try recipe.build(
            "a.sif",
            """
            \(try Recipe.header)%appfiles foo
                \(recipe.file("tool")) bin/tool
            %appinstall foo
                echo "in $PWD of $SCIF_APPNAME" > installed
            %appenv foo
                export FOO=1
            %applabels foo
                Version 3
            %apphelp foo
                helps
            %apprun foo
                echo running
            %apprun bar
                echo bar
            """)
        #expect(result.status == 0, "\(result)")
        #expect(try recipe.run(["inspect", "--list-apps", recipe.file("a.sif")]).output == "bar\nfoo\n")
        #expect(try recipe.text("a.sif", "/scif/apps/foo/installed") == "in /scif/apps/foo of foo\n")
        #expect(try recipe.text("a.sif", "/scif/apps/foo/bin/tool").contains("echo tool"))
        let labels = try recipe.run(["inspect", "--app", "foo", "--labels", recipe.file("a.sif")]).output
        #expect(labels == "SCIF_APP_NAME: foo\nVersion: 3\n", "\(labels)")
        #expect(try recipe.run(["inspect", "--app", "none", recipe.file("a.sif")]).status == 255)
        #expect(try recipe.text("a.sif", "/.singularity.d/env/94-appsbase.sh").contains("SCIF_APPROOT_foo='/scif/apps/foo'"))
    }

    @Test(
        .enabled(if: Site.isRoot, "needs root to mount an overlay"),
        arguments: Recipe.Builder.possible, ["none", "/usr/bin/fuse-overlayfs"])
    func withoutTheKernelsOverlayThereAreOthers(_ builder: Recipe.Builder, _ program: String) throws {
        let recipe = try Recipe(builder)
        for name in ["lower", "upper", "work", "over"] {
            mkdir(recipe.file(name), 0o777)
            chmod(recipe.file(name), 0o777)
        }
        // An overlay cannot be the upper layer of another one.
        let options = ["lower", "upper", "work"].map { "\($0)dir=\(recipe.file($0))" }.joined(separator: ",") + ",userxattr"
        #expect(try Run.program("/bin/mount", ["-t", "overlay", "-o", options, "overlay", recipe.file("over")]).status == 0)
        defer { _ = try? Run.program("/bin/umount", ["-l", recipe.file("over")]) }
        let text =
            try Recipe.header
            + "%post\n echo x > /x; chown 6:7 /x; rm /etc/group; cat /etc/passwd; rm -r /usr/sbin; mkdir /usr/sbin; echo n > /usr/sbin/n\n%environment\n export A=1\n"
        let replaced = try recipe.build(
            "a.sif", text, environment: ["TMPDIR": recipe.file("over"), "SINGULARITY_FUSE_OVERLAYFS": program])
        let word = program == "none" ? "unpacked copy" : "fuse-overlayfs does it"
        #expect(replaced.status == 0 && replaced.error.contains(word), "\(replaced)")
        let overlaid = try recipe.build("b.sif", text, options: ["--no-layer-cache"])
        #expect(overlaid.status == 0 && !overlaid.error.contains("WARNING"), "\(overlaid)")
        let difference = try recipe.run(["diff", recipe.file("a.sif"), recipe.file("b.sif")])
        #expect(difference.output.split(separator: "\n").allSatisfy { $0.contains("labels.json") }, "\(difference)")
        #expect(try recipe.listing("a.sif", "/x") == ["-rw-r--r-- 6/7 /x"])
        #expect(try recipe.listing("a.sif", "/usr/sbin").count == 2)
    }
}
