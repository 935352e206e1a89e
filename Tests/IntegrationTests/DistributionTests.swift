import Foundation
import Testing

/// Distributions that are installed by their own package managers into an empty root, from repositories that the tests make.
@Suite(.enabled(if: Site.isPrepared && !Recipe.Builder.possible.isEmpty, "needs scripts/test.sh and /dev/fuse"))
struct DistributionTests {
    /// A repository of RPM packages: a small system, which says that it is all that dnf and zypper want, and one package more, for an
    /// account of its own, whose script needs a device.
    private static let rpmRepository = """
        set -e
        cd "$1"
        mkdir -p repository/base repository/more
        export HOME="$PWD" GNUPGHOME="$PWD/gnupg"
        cat > system.spec <<'END'
        Name: bash
        Version: 1
        Release: 1
        Summary: a small system
        License: none
        AutoReqProv: no
        Provides: coreutils aaa_base zypper SUSEConnect
        %define _build_id_links none
        %define __os_install_post %{nil}
        %description
        %install
        mkdir -p %{buildroot}/bin %{buildroot}/etc
        cp /bin/busybox %{buildroot}/bin/busybox
        for name in sh bash cat ls id true; do ln -s busybox %{buildroot}/bin/$name; done
        echo small > %{buildroot}/etc/redhat-release
        printf 'root:x:0:0::/root:/bin/sh\\nthing:x:71:72::/:/bin/sh\\n' > %{buildroot}/etc/passwd
        printf 'root:x:0:\\nthing:x:72:\\n' > %{buildroot}/etc/group
        %files
        /bin/*
        /etc/*
        END
        cat > thing.spec <<'END'
        Name: thing
        Version: 1
        Release: 1
        Summary: a thing
        License: none
        AutoReqProv: no
        Requires(pre): bash
        %define _build_id_links none
        %description
        %install
        mkdir -p %{buildroot}/opt
        echo thing > %{buildroot}/opt/thing
        %post
        echo gone > /dev/null
        echo "made by $(id -u)" > /opt/made
        %files
        %attr(640, thing, thing) /opt/thing
        END
        for name in system thing; do rpmbuild --quiet -bb --define "_topdir $PWD/top" --define "_rpmdir $PWD/top/RPMS" $name.spec; done
        find top/RPMS -name 'bash-*.rpm' -exec mv {} repository/base \\;
        find top/RPMS -name 'thing-*.rpm' -exec mv {} repository/more \\;
        mkdir -m 700 gnupg
        gpg --batch --quiet --passphrase '' --quick-gen-key test@example.org rsa2048 sign never
        for name in base more; do
            createrepo_c --quiet repository/$name
            gpg --batch --quiet --armor --detach-sign repository/$name/repodata/repomd.xml
            gpg --batch --quiet --armor --export > repository/$name/repodata/repomd.xml.key
        done
        gpgconf --kill gpg-agent
        """

    /// The same as packages of Arch Linux, whose name for the whole system is `base`.
    private static let pacmanRepository = """
        set -e
        cd "$1"
        mkdir -p repository system/bin system/etc thing/opt
        cp /bin/busybox system/bin/busybox
        for name in sh bash cat ls id true; do ln -s busybox system/bin/$name; done
        echo small > system/etc/redhat-release
        printf 'root:x:0:0::/root:/bin/sh\\nthing:x:71:72::/:/bin/sh\\n' > system/etc/passwd
        printf 'root:x:0:\\nthing:x:72:\\n' > system/etc/group
        echo thing > thing/opt/thing
        printf 'post_install() {\\n echo gone > /dev/null\\n echo "made by $(id -u)" > /opt/made\\n}\\n' > thing/.INSTALL
        chmod 640 thing/opt/thing
        info() { printf 'pkgname = %s\\npkgver = 1-1\\npkgdesc = x\\narch = any\\nsize = 1\\n' $1; }
        info base > system/.PKGINFO
        { info thing; echo 'depend = base'; } > thing/.PKGINFO
        (cd system; tar --owner=0 --group=0 --zstd -cf ../repository/base-1-1-any.pkg.tar.zst .PKGINFO bin etc)
        (cd thing; tar --owner=thing:71 --group=thing:72 --zstd -cf ../repository/thing-1-1-any.pkg.tar.zst .PKGINFO .INSTALL opt)
        repo-add -q repository/small.db.tar.gz repository/*.pkg.tar.zst >/dev/null
        printf '[options]\\nArchitecture = auto\\nSigLevel = Never\\n[small]\\nServer = file://%s/repository\\n' "$PWD" > pacman.conf
        """

    private func check(_ recipe: Recipe, _ repository: String, _ header: String) throws {
        let made = try Run.program("/bin/sh", ["-c", repository, "sh", recipe.scratch.path])
        try #require(made.status == 0, "\(made)")
        let text = header.replacing("REPOSITORY", with: "file://\(recipe.file("repository"))")
            .replacing("FOLDER", with: recipe.scratch.path)
        let result = try recipe.build("a.sif", text + "Include: thing\n%post\n    cat /etc/redhat-release /opt/thing /opt/made\n")
        try #require(result.status == 0, "\(result)")
        #expect(result.output.contains("small\nthing\nmade by 0\n"), "\(result)")
        #expect(try recipe.listing("a.sif", "/opt/thing") == ["-rw-r----- 71/72 /opt/thing"])
        // Devices were only lent.
        #expect(try recipe.listing("a.sif", "/dev") == ["drwxr-xr-x 0/0 /dev"])
        #expect(try recipe.listing("a.sif").allSatisfy { !$0.hasSuffix(".rpm") && !$0.hasSuffix(".zst") })
        #expect(recipe.leftovers.isEmpty)
        // The image knows its packages.
        let bill = try recipe.run(["inspect", "--sbom", "a.sif"])
        #expect(bill.output.contains("\"thing\""), "\(bill)")
    }

    @Test(arguments: Recipe.Builder.possible) func dnf(_ builder: Recipe.Builder) throws {
        try check(
            Recipe(builder), Self.rpmRepository,
            "Bootstrap: dnf\nOSVersion: base\nMirrorURL: REPOSITORY/%{OSVERSION}\nUpdateURL: REPOSITORY/more\n")
    }

    @Test(arguments: Recipe.Builder.possible) func zypper(_ builder: Recipe.Builder) throws {
        try check(
            Recipe(builder), Self.rpmRepository,
            "Bootstrap: zypper\nOSVersion: base\nMirrorURL: REPOSITORY/%{OSVERSION}\nOtherURL1: REPOSITORY/more\n")
    }

    /// A registration server cannot be had: a program in the place of SUSEConnect adds the repositories, as that one does.
    @Test(.enabled(if: Site.isRoot, "needs root to put a program in the place of SUSEConnect")) func registeredProduct() throws {
        let recipe = try Recipe(.root)
        let made = try Run.program("/bin/sh", ["-c", Self.rpmRepository, "sh", recipe.scratch.path])
        try #require(made.status == 0, "\(made)")
        mkdir(recipe.file("bin"), 0o755)
        let program = """
            #!/bin/sh
            echo "$*" >> \(recipe.file("registered"))
            case "$4" in SLES/*) name=base ;; sle-module-hpc/*) name=more ;; *) exit 0 ;; esac
            exec zypper --root "$2" addrepo file://\(recipe.file("repository"))/$name $name
            """
        try recipe.scratch.write("bin/SUSEConnect", Array(program.utf8))
        chmod(recipe.file("bin/SUSEConnect"), 0o755)
        let key = try String(contentsOfFile: recipe.file("repository/base/repodata/repomd.xml.key"), encoding: .utf8)
        let header = """
            Bootstrap: zypper
            OSVersion: 12.5
            Product: SLES
            User: someone@example.org
            Regcode: 1234-abcd
            Modules: sle-module-hpc, sle-module-toolchain/12
            ProductPGP: \(key.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\\n\\\n"))
            Include: thing

            %post
                cat /opt/thing
            """
        try recipe.scratch.write("a.def", Array(header.utf8))
        let result = try Run.program(
            "/usr/bin/unshare",
            [
                "--mount", "sh", "-c", "mount --bind \"$1\" /usr/local/bin; shift; exec \"$@\"", "sh", recipe.file("bin"), Site.program,
                "build", recipe.file("a.sif"), recipe.file("a.def"),
            ], environment: recipe.variables(), in: recipe.scratch.path)
        try #require(result.status == 0, "\(result)")
        let machine = try Run.program("/bin/uname", ["-m"]).output.trimmingCharacters(in: .whitespacesAndNewlines)
        let registered = try String(contentsOfFile: recipe.file("registered"), encoding: .utf8).split(separator: "\n").map {
            $0.split(separator: " ").dropFirst(2).joined(separator: " ")
        }
        #expect(
            registered
                == [
                    "--product SLES/12.5/x86_64 --email someone@example.org --regcode 1234-abcd", "--product sle-module-hpc/12/x86_64",
                    "--product sle-module-toolchain/12/x86_64",
                ].map { $0.replacing("x86_64", with: machine) })
        #expect(try recipe.listing("a.sif", "/opt/thing") == ["-rw-r----- 71/72 /opt/thing"])
        // The product's key was given to rpm, at the place that version 12 has.
        #expect(
            try recipe.listing("a.sif", "/usr/lib/sysimage/rpm") == ["lrwxrwxrwx 0/0 /usr/lib/sysimage/rpm"])
    }

    @Test(arguments: Recipe.Builder.possible) func pacman(_ builder: Recipe.Builder) throws {
        try check(Recipe(builder), Self.pacmanRepository, "Bootstrap: arch\nConfURL: FOLDER/pacman.conf\n")
    }
}
