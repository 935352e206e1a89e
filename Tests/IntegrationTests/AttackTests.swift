import Foundation
import Testing

/// What published attacks on container systems did, tried here. Each test names the class and one advisory of it.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct AttackTests {
    /// A sandbox with busybox, which a test makes hostile.
    private final class Sandbox {
        let scratch: Scratch
        let root: String
        /// A file outside of the sandbox that must stay as it is.
        let canary: String

        init(_ name: String = #function) throws {
            scratch = try Scratch(name)
            root = scratch.file("root")
            for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "var/tmp", "root"] {
                try FileManager.default.createDirectory(atPath: root + "/" + folder, withIntermediateDirectories: true)
            }
            try FileManager.default.copyItem(atPath: "/bin/busybox", toPath: root + "/bin/busybox")
            symlink("busybox", root + "/bin/sh")
            mkdir(scratch.file("outside"), 0o777)
            chmod(scratch.file("outside"), 0o777)
            canary = try scratch.write("outside/canary", Array("canary\n".utf8))
        }

        func replace(_ path: String, withLinkTo target: String) throws {
            try? FileManager.default.removeItem(atPath: root + path)
            symlink(target, root + path)
        }

        func sh(_ script: String, _ options: [String] = [], as identity: Run.Identity = .ordinaryUser, environment: [String: String] = [:])
            throws -> Run
        {
            try Run.program(
                Site.program, ["exec"] + options + [root, "/bin/busybox", "sh", "-c", script], as: identity, environment: environment,
                in: "/", timeout: 20)
        }

        /// Names and contents outside are as they were.
        func expectUntouched(sourceLocation: SourceLocation = #_sourceLocation) {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: scratch.file("outside"))) ?? []
            #expect(names == ["canary"], "\(names)", sourceLocation: sourceLocation)
            #expect((try? String(contentsOfFile: canary, encoding: .utf8)) == "canary\n", sourceLocation: sourceLocation)
        }
    }

    private static let identities: [Run.Identity] = Site.isRoot ? [.ordinaryUser, .caller] : [.caller]

    // MARK: Links in the image where the launcher mounts (CVE-2023-27561, CVE-2025-31133, CVE-2026-41579)

    @Test(arguments: ["/dev", "/proc", "/sys", "/tmp", "/etc", "/var/tmp", "/root", "/dev/pts", "/dev/shm"], identities)
    func aLinkAtAMountPointStaysInTheContainer(_ path: String, _ identity: Run.Identity) throws {
        for target in ["/outside", "../../../../../../outside"] {
            let sandbox = try Sandbox("aLinkAt\(UInt32.random(in: 0 ... .max))()")
            let link = target == "/outside" ? sandbox.scratch.file("outside") : "../outside"
            try sandbox.replace(path, withLinkTo: link)
            for options in [[], ["-c"], ["-C"], ["--writable-tmpfs"]] {
                // Whether it runs depends on what is missing; the launcher changes nothing outside.
                _ = try sandbox.sh("busybox true", options, as: identity)
                sandbox.expectUntouched()
            }
        }
    }

    // MARK: Files of the image that the launcher reads (CVE-2024-9676, CVE-2026-47262)

    @Test(arguments: ["/etc/passwd", "/etc/group", "/etc/resolv.conf", "/etc/localtime"]) func filesThatAreReadFromTheImageMayBeAnything(
        _ path: String
    ) throws {
        let makers: [(Sandbox) throws -> Void] = [
            { try $0.replace(path, withLinkTo: $0.canary) }, { mkfifo($0.root + path, 0o666) },
            { try $0.replace(path, withLinkTo: "/dev/zero") },
            { mkdir($0.root + path, 0o755) },
            {
                _ = FileManager.default.createFile(atPath: $0.root + path, contents: nil)
                truncate($0.root + path, 10 << 30)
            },
            { try Data("\n:::\nx:x:-1:4294967296:\n\0\n".utf8).write(to: URL(filePath: $0.root + path)) },
        ]
        for (number, make) in makers.enumerated() {
            let sandbox = try Sandbox("filesThatAreRead\(number)()")
            try make(sandbox)
            let started = Date()
            // What is outside is not visible with --contain, unless the launcher had read it.
            let result = try sandbox.sh("busybox echo ran; busybox timeout 1 busybox head -c 100 \(path)", ["-c"])
            #expect(Date().timeIntervalSince(started) < 10)
            #expect(result.output.hasPrefix("ran\n") && !result.output.contains("canary"), "\(number): \(result)")
            sandbox.expectUntouched()
        }
    }

    // MARK: Rights (Singularity 2.5.0, CVE-2022-24769)

    @Test(.enabled(if: Site.isRoot, "needs root to make a set-user-id program")) func setUserIDProgramsGiveNothing() throws {
        let sandbox = try Sandbox()
        chmod(sandbox.root + "/bin/busybox", 0o4755)
        let id = try Run.program("/usr/bin/id", ["-u"], as: .ordinaryUser).output
        for options in [[], ["-C"], ["--writable-tmpfs"], ["-B", "\(sandbox.root)/bin:/mnt"]] {
            let result = try sandbox.sh(
                "busybox id -u; busybox grep -c 'NoNewPrivs:.1' /proc/self/status; busybox touch /etc/x 2>&1", options)
            #expect(result.output.hasPrefix("\(id)1\n"), "\(result)")
        }
        // The same in an image, and for root.
        let image = sandbox.scratch.file("suid.sqfs")
        #expect(try Run.singularity("build", image, sandbox.root).status == 0)
        chmod(image, 0o644)
        let result = try Run.program(Site.program, ["exec", image, "/bin/busybox", "id", "-u"], as: .ordinaryUser)
        #expect(result.output == id)
        let dropped = try Run.program(
            Site.program,
            [
                "exec", "--security", "uid:65534,gid:65534", image, "/bin/busybox", "sh", "-c",
                "busybox id -u; busybox grep NoNewPrivs /proc/self/status",
            ])
        #expect(dropped.output == "65534\nNoNewPrivs:\t1\n", "\(dropped)")
    }

    @Test(.enabled(if: Site.isRoot, "needs root to make devices")) func devicesOfAnImageCannotBeOpened() throws {
        let sandbox = try Sandbox()
        _ = try Run.program("/bin/mknod", ["-m", "666", sandbox.root + "/disk", "b", "7", "0"])
        _ = try Run.program("/bin/mknod", ["-m", "666", sandbox.root + "/null", "c", "1", "3"])
        for identity in Self.identities {
            let result = try sandbox.sh("busybox cat /disk > /dev/null && echo read; echo x > /null && echo written", as: identity)
            #expect(result.output.isEmpty, "\(result)")
        }
    }

    @Test(.enabled(if: Site.isRoot, "needs another group")) func aGroupThatIsDeniedStaysDenied() throws {
        // CVE-2018-7169: giving up a group must not get around a denial.
        let scratch = try Scratch()
        let path = try scratch.write("denied", Array("secret\n".utf8))
        chmod(path, 0o604)
        _ = try Run.program("/bin/chgrp", [Site.user, path])
        for options in [[], ["--fakeroot", "--ignore-subuid"], ["--security", "gid:0"]] {
            let result = try Run.program(
                Site.program, ["exec"] + options + ["-B", scratch.path, Site.debian.get(), "cat", path], as: .ordinaryUser)
            #expect(!result.output.contains("secret"), "\(result)")
            #expect(
                try Run.program(Site.program, ["exec"] + options + [Site.debian.get(), "cat", "/proc/self/setgroups"], as: .ordinaryUser)
                    .output == "deny\n")
        }
    }

    // MARK: Descriptors (CVE-2016-9962, CVE-2024-21626)

    @Test func noDirectoryOfTheHostIsOpen() throws {
        let image = try Site.debian.get()
        for options in [[], ["-C"], ["--pid"], ["--no-init", "--pid"]] {
            for number in 0..<24 {
                let result = try Run.program(
                    Site.program, ["exec"] + options + ["--pwd", "/proc/self/fd/\(number)", image, "sh", "-c", "pwd -P; ls"],
                    as: .ordinaryUser)
                // Either it fails, or the place is in the container.
                if result.status == 0 { #expect(result.output.hasPrefix("/") && !result.output.contains("unreachable"), "\(result)") }
            }
        }
        let listed = try Run.program(
            Site.program, ["exec", "-C", image, "sh", "-c", "ls -l /proc/1/fd | grep -v -e pipe: -e /dev/null -e total -e out."],
            as: .ordinaryUser)
        #expect(!listed.output.contains("/home") && !listed.output.contains("/work"), "\(listed)")
    }

    /// CVE-2019-5736: who is in an instance looks at those who join it.
    @Test func theJoiningProcessCannotBeLookedInto() throws {
        let scratch = try Scratch()
        let environment = ["SINGULARITY_CONFIGDIR": scratch.file("conf")]
        let image = try Site.debian.get()
        func run(_ words: String...) throws -> Run { try Run.program(Site.program, words, as: .ordinaryUser, environment: environment) }
        #expect(try run("instance", "start", "-B", scratch.path, image, "trap").status == 0)
        defer { _ = try? run("instance", "stop", "--force", "trap") }
        let watch = """
            import os
            seen = set()
            while not os.path.exists('\(scratch.path)/stop'):
                for p in os.listdir('/proc'):
                    if p.isdigit():
                        try:
                            exe = os.readlink('/proc/' + p + '/exe')
                            if 'singularity' in exe and p != '1': seen.add(exe)
                        except OSError: pass
            open('\(scratch.path)/seen', 'w').write(repr(seen))
            """
        let live = try Run.start(
            Site.program, ["exec", "instance://trap", "python3", "-c", watch], as: .ordinaryUser, environment: environment)
        for _ in 0..<20 { #expect(try run("exec", "instance://trap", "true").status == 0) }
        try scratch.write("stop", [])
        #expect(live.finish(timeout: 20).status == 0)
        #expect((try? String(contentsOfFile: scratch.file("seen"), encoding: .utf8)) == "set()")
        #expect(try run("exec", "instance://trap", "sh", "-c", "ls /proc/1/fd | tr '\\n' ' '").output == "0 1 2 ")
    }

    // MARK: Races (CVE-2021-30465)

    @Test func aMountPointThatIsExchangedLeadsNowhereElse() throws {
        let scratch = try Scratch()
        let volume = scratch.file("volume")
        for name in ["volume", "volume/d", "volume/d/x", "outside"] {
            mkdir(scratch.file(name), 0o777)
            chmod(scratch.file(name), 0o777)
        }
        symlink("/", volume + "/link")
        // Exchanges a directory and a link to / all the time.
        let flip = """
            import ctypes, os, sys
            libc = ctypes.CDLL(None, use_errno=True)
            while not os.path.exists('\(scratch.file("stop"))'):
                for _ in range(100): libc.renameat2(-100, b'\(volume)/d', -100, b'\(volume)/link', 2)
            """
        let flipper = try Run.start("/usr/bin/python3", ["-c", flip], as: .ordinaryUser)
        if Site.isRoot { _ = try Run.program("/bin/chown", ["-R", Site.user, volume]) }
        let before = try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)
        for _ in 0..<60 {
            let result = try Run.program(
                Site.program, ["exec", "-B", "\(volume):/vol", "-B", "\(scratch.file("outside")):/vol/d/x", Site.debian.get(), "true"],
                as: .ordinaryUser)
            #expect(result.status == 0 || result.status == 255)
        }
        try scratch.write("stop", [])
        _ = flipper.finish(timeout: 10)
        #expect(try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8) == before)
        #expect(!FileManager.default.fileExists(atPath: "/x"))
    }

    // MARK: Paths and permissions (CVE-2026-48785, CVE-2019-19724)

    @Test func pathsThatAreAllowedAreComparedByNames() throws {
        let scratch = try Scratch()
        for folder in ["allowed", "allowed2"] { mkdir(scratch.file(folder), 0o755) }
        let image = try Site.debian.get()
        for folder in ["allowed", "allowed2"] { try FileManager.default.linkItem(atPath: image, toPath: scratch.file("\(folder)/i.sif")) }
        symlink(scratch.file("allowed2/i.sif"), scratch.file("allowed/link.sif"))
        let file = try scratch.write("singularity.conf", Array("limit container paths = \(scratch.file("allowed"))\n".utf8))
        func status(_ path: String) throws -> Int32 {
            try Run.program(Site.program, ["--config", file, "exec", scratch.file(path), "true"], as: .ordinaryUser).status
        }
        #expect(try status("allowed/i.sif") == 0)
        for path in ["allowed2/i.sif", "allowed/../allowed2/i.sif", "allowed/link.sif"] { #expect(try status(path) == 255, "\(path)") }
        for (line, expected) in [
            ("allow container sif = no", Int32(255)), ("allow container dir = no", 0), ("limit container owners = nobody", 255),
        ] {
            let other = try scratch.write("other.conf", Array((line + "\n").utf8))
            #expect(
                try Run.program(Site.program, ["--config", other, "exec", image, "true"], as: .ordinaryUser).status == expected, "\(line)")
        }
    }

    @Test func nothingIsMadeThatOthersMayRead() throws {
        let scratch = try Scratch()
        let environment = [
            "SINGULARITY_CONFIGDIR": scratch.file("conf"), "XDG_RUNTIME_DIR": scratch.file("run"),
            "SINGULARITY_CACHEDIR": scratch.file("cache"),
        ]
        mkdir(scratch.file("run"), 0o700)
        if Site.isRoot { _ = try Run.program("/bin/chown", [Site.user, scratch.file("run")]) }
        let image = try Site.debian.get()
        let script =
            "umask 000; \(Site.program) instance start \(image) open && find \(scratch.path)/run \(scratch.path)/conf \\( -type d -o -type s \\) -perm /077 -printf '%p %m\\n'; \(Site.program) exec --unsquash \(image) true; find \(scratch.path)/cache -maxdepth 2 -type d -perm /077 -printf '%p %m\\n'; \(Site.program) instance stop open"
        let result = try Run.program("/bin/sh", ["-c", script], as: .ordinaryUser, environment: environment)
        // The socket itself is in a directory that nobody else may enter.
        let open = result.output.split(separator: "\n").filter { !$0.contains("/run/singularity/") && !$0.hasSuffix("/conf 755") }
        #expect(result.status == 0 && open.allSatisfy { $0.contains("/cache 7") || $0.contains("/conf/instances") }, "\(result)")
    }

    // MARK: Environment (CVE-2021-3602, CVE-2026-57231)

    @Test func variablesAreNeverPrograms() throws {
        let scratch = try Scratch()
        let marker = scratch.file("marker")
        for value in ["$(touch \(marker))", "`touch \(marker)`", "\"; touch \(marker); \"", "';touch \(marker);'"] {
            let plain = try Run.program(
                Site.program, ["exec", Site.debian.get(), "printenv", "V"], as: .ordinaryUser, environment: ["V": value])
            #expect(plain.output == value + "\n")
            let literal = try Run.program(
                Site.program, ["exec", "--no-eval", Site.debian.get(), "printenv", "V"], as: .ordinaryUser,
                environment: ["SINGULARITYENV_V": value])
            #expect(literal.output == value + "\n")
        }
        for name in ["A;touch \(marker)", "A$(touch \(marker))"] {
            _ = try Run.program("/usr/bin/env", ["\(name)=1", Site.program, "exec", Site.debian.get(), "true"], as: .ordinaryUser)
        }
        #expect(!FileManager.default.fileExists(atPath: marker))
    }

    @Test func namesThatArePartsOfPathsAreChecked() throws {
        let image = try Site.debian.get()
        for words in [
            ["exec", "--app", "../../etc", image, "true"], ["exec", "--network", "../bin/sh", image, "true"],
            ["exec", "instance://../x", "true"],
        ] {
            #expect(try Run.program(Site.program, words, as: .ordinaryUser).status == 255, "\(words)")
        }
    }

    // MARK: A section of a build that reaches for its own temporary directory

    /// The host's /tmp is in a section, and in it what the build keeps there. Something else in the place of what is read when the
    /// section has ended must not become part of the image, and nothing outside may change.
    @Test(arguments: Recipe.Builder.possible)
    func aSectionCannotExchangeWhatTheBuildReads(_ builder: Recipe.Builder) throws {
        let recipe = try Recipe(builder)
        let outside = try Scratch("outside")
        try FileManager.default.createDirectory(atPath: outside.file("root/.cache/pip"), withIntermediateDirectories: true)
        try outside.write("secret", Array("secret\n".utf8))
        try outside.write("root/.cache/pip/precious", Array("precious\n".utf8))
        chmod(outside.file("root/.cache/pip"), 0o777)
        let work = "\(recipe.scratch.path)/singularity-build-*/section*"
        let result = try recipe.build(
            "a.sif",
            try Recipe.header + """
                %post
                    echo mine > /mine
                    mkdir -p /root/.cache/pip
                    for folder in upper packages; do
                        for path in \(work)/$folder; do
                            mv $path $path.moved
                            ln -s \(outside.path) $path
                        done
                    done
                    echo hostile > /root/.cache/pip/precious
                    sleep 0.3

                """, options: ["--package-cache"])
        #expect(result.status == 0, "\(result)")
        let listing = try recipe.listing("a.sif")
        #expect(listing.contains { $0.hasSuffix(" /mine") } && !listing.contains { $0.contains("secret") }, "\(listing)")
        #expect(outside.names == ["root", "secret"])
        #expect(try String(contentsOfFile: outside.file("root/.cache/pip/precious"), encoding: .utf8) == "precious\n")
        #expect(recipe.leftovers.isEmpty)
    }
}
