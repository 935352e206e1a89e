import Foundation
import Testing

/// Options of the run-time: namespaces, ids, rights, layers, devices.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct OptionTests {
    private func exec(
        _ options: [String], _ command: [String], as identity: Run.Identity = .ordinaryUser, environment: [String: String] = [:],
        in folder: String = "/"
    ) throws -> Run {
        try Run.program(
            Site.program, ["exec"] + options + [Site.debian.get()] + command, as: identity, environment: environment, in: folder)
    }

    private func sh(_ options: [String], _ script: String, as identity: Run.Identity = .ordinaryUser) throws -> Run {
        try exec(options, ["sh", "-c", script], as: identity)
    }

    // MARK: Profiles

    /// The one profile for images that nobody trusts shows nothing of the host.
    @Test(arguments: [Run.Identity.ordinaryUser, .caller]) func aClosedContainerSeesNothingOfTheHost(_ identity: Run.Identity) throws {
        let scratch = try Scratch()
        try scratch.write("secret", Array("secret\n".utf8))
        let script = """
            for n in ipc mnt net pid uts; do echo $n $(readlink /proc/self/ns/$n); done
            hostname; ls -A ~ /tmp /var/tmp /dev | tr '\\n' ' '; echo; ls /proc | grep -c '^[0-9]'
            grep -c : /proc/net/dev; grep -E 'Cap(Eff|Bnd)|NoNewPrivs' /proc/self/status; echo "secret $SECRET"
            ls \(scratch.path) 2>&1; cut -d' ' -f2,3 /proc/self/mounts
            """
        let outside = try Run.program("/bin/sh", ["-c", script], as: identity, environment: ["SECRET": "x"], in: scratch.path)
        let inside = try exec(["--closed"], ["sh", "-c", script], as: identity, environment: ["SECRET": "x"], in: scratch.path)
        let lines = inside.output.split(separator: "\n").map(String.init)
        try #require(inside.status == 0 && lines.count > 20, "\(inside)")
        #expect(zip(lines.prefix(5), outside.output.split(separator: "\n")).allSatisfy { $0 != $1 })
        #expect(lines[5] == "container")
        #expect(!lines[6].contains("fuse") && !lines[6].contains("sda") && !lines[6].contains("secret"))
        #expect((Int(lines[7]) ?? 99) < 12)
        #expect(inside.output.contains("CapEff:\t0000000000000000\n"))
        #expect(inside.output.contains("CapBnd:\t0000000000000000\n") && inside.output.contains("NoNewPrivs:\t1\n"))
        #expect(!inside.output.contains("/etc/"), "no file is shown or made")
        #expect(lines.contains("secret ") && inside.output.contains("No such file"))
        // What is asked for is shown.
        let shown = try exec(["--closed", "-B", "\(scratch.path):/mnt:ro"], ["cat", "/mnt/secret"], as: identity)
        #expect(shown.output == "secret\n", "\(shown)")
    }

    /// What differs between hosts does not differ in a closed container: three hosts, the same bytes.
    @Test(.enabled(if: Site.isRoot, "needs root to make hosts that differ")) func aClosedContainerIsTheSameOnAllHosts() throws {
        let scratch = try Scratch()
        let home = scratch.file("home")
        try FileManager.default.createDirectory(atPath: home + "/.local/lib/python3.11/site-packages", withIntermediateDirectories: true)
        let script = """
            env | sort; cut -d' ' -f2,3 /proc/self/mounts | sort; locale 2>/dev/null; date +%Z; umask; pwd; hostname; ulimit -s
            python3 -c 'import sys; print(sys.path)'; cat /etc/resolv.conf /etc/hosts /etc/hostname 2>/dev/null | sha256sum
            """
        let hosts = [
            "hostname first",
            """
            hostname second; export TZ=Asia/Tokyo LANG=de_DE.UTF-8 LC_ALL=C PYTHONPATH=/opt FOO=bar LD_LIBRARY_PATH=/opt PS1=x
            umask 077; mount -t tmpfs tmpfs /mnt; mount --bind /etc/passwd /etc/resolv.conf; cd /mnt
            """,
            """
            hostname third; export SINGULARITY_BIND= TERM=vt100 PYTHONUSERBASE=/opt PATH=/opt:$PATH SHELL=/bin/false
            echo 10.0.0.1 secret > \(scratch.path)/hosts; mount --bind \(scratch.path)/hosts /etc/hosts
            mount --bind /usr/share/zoneinfo/UTC /etc/localtime 2>/dev/null; cd /usr; umask 000
            """,
        ]
        let image = try Site.debian.get()
        let outputs = try hosts.map { host in
            let within = """
                \(host)
                umask 022
                exec setpriv --reuid \(Site.user) --regid \(Site.user) --init-groups \(Site.program) exec --closed \(image) sh -c "$1"
                """
            let result = try Run.program(
                "/usr/bin/unshare", ["--mount", "--uts", "/bin/sh", "-c", within, "sh", script],
                environment: ["HOME": home, "TERM": "xterm"])
            #expect(result.status == 0, "\(result)")
            // The terminal's type is the one variable that is taken over, as `--explain` says.
            return result.output.split(separator: "\n").filter { !$0.hasPrefix("TERM=") }.joined(separator: "\n")
        }
        #expect(outputs[0].contains("HOME=") && outputs[0].contains("python3"))
        #expect(outputs[1] == outputs[0] && outputs[2] == outputs[0], "\(outputs)")
    }

    /// Sites want to know who ran what.
    @Test(.enabled(if: Site.isRoot, "needs root: only its configuration counts")) func startsAreToldToTheLog() throws {
        let scratch = try Scratch()
        let socket = scratch.file("log")
        let server = """
            import socket, sys
            s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            s.bind(sys.argv[1])
            import os; os.chmod(sys.argv[1], 0o666)
            print("ready", flush=True)
            while True:
                print(s.recv(65536).decode(), flush=True)
            """
        let log = try Run.start("/usr/bin/python3", ["-c", server, socket])
        defer {
            kill(log.identifier, SIGKILL)
            _ = log.finish()
        }
        #expect(log.waitFor("ready"))
        let configuration = try scratch.write("singularity.conf", Array("audit log = \(socket)\n".utf8))
        func run(_ options: [String]) throws -> Run {
            try Run.program(
                Site.program, ["--config", configuration, "exec"] + options + [try Site.debian.get(), "true"], as: .ordinaryUser)
        }
        let started = try run(["-B", "/etc:/mnt:ro"])
        #expect(started.status == 0, "\(started)")
        #expect(log.waitFor("binds="))
        let line = log.printed().split(separator: "\n").last ?? ""
        for part in [
            "<86>singularity[", "user=\"\(Site.user)\"", "action=exec", "image=\"\(try Site.debian.get())\"", "says-sha256=", "verified=no",
            "/etc:/mnt:ro",
        ] { #expect(line.contains(part), "\(part): \(line)") }
        // A log that is wanted and not there stops the start.
        kill(log.identifier, SIGKILL)
        _ = log.finish()
        let refused = try run([])
        #expect(refused.status == 255 && refused.error.contains("audit log"), "\(refused)")
    }

    // MARK: Namespaces

    /// Namespaces that differ from the caller's.
    @Test(arguments: [
        ([], ["mnt", "user"]), (["--pid"], ["mnt", "pid", "user"]), (["--ipc"], ["ipc", "mnt", "user"]),
        (["--uts"], ["mnt", "user", "uts"]),
        (["--hostname", "there"], ["mnt", "user", "uts"]), (["--net", "--network", "none"], ["mnt", "net", "user"]),
        (["-C"], ["ipc", "mnt", "pid", "user"]), (["-C", "--no-pid"], ["ipc", "mnt", "user"]), (["-c"], ["mnt", "user"]),
    ]) func namespacesAreThoseThatWereAskedFor(_ options: [String], _ expected: [String]) throws {
        let script = "for n in ipc mnt net pid user uts; do echo $n $(readlink /proc/self/ns/$n); done"
        let outside = try Run.program("/bin/sh", ["-c", script], as: .ordinaryUser).output.split(separator: "\n")
        let inside = try sh(options, script).output.split(separator: "\n")
        let different = zip(outside, inside).filter { $0 != $1 }.map { String($0.1.split(separator: " ")[0]) }
        #expect(inside.count == 6 && different == expected, "\(different)")
    }

    @Test func theNetworkNoneHasALoopbackInterfaceOnly() throws {
        let lines = try sh(["--net", "--network", "none"], "cat /proc/net/dev; ls /sys/class/net").output.split(separator: "\n")
        #expect(lines.count { $0.contains(":") && !$0.contains("|") } == 1)
        #expect(lines.last == "lo")
    }

    @Test func aHostNameIsSetAndWritten() throws {
        #expect(try sh(["--hostname", "there.example"], "hostname; cat /etc/hostname").output == "there.example\nthere.example\n")
    }

    // MARK: Ids and rights

    @Test func fakeRootIsRootWithAllCapabilities() throws {
        for options in [["--fakeroot"], ["--fakeroot", "--ignore-subuid"]] {
            let lines = try sh(options, "id -u; echo $HOME; grep CapEff /proc/self/status; cat /proc/self/setgroups").output.split(
                separator: "\n")
            #expect(lines.prefix(2) == ["0", "/root"], "\(lines)")
            #expect(lines[2].hasSuffix("ffffffff"))
        }
        #expect(try sh(["--fakeroot", "--ignore-subuid"], "wc -l < /proc/self/uid_map").output == "1\n")
    }

    @Test(.enabled(if: Site.isRoot, "needs root")) func fakeRootHasTheSubordinateIDs() throws {
        // The ordinary account of the tests has ranges, as useradd gives them.
        let result = try sh(["--fakeroot", "--writable-tmpfs"], "cat /proc/self/uid_map | wc -l; touch /x; chown 5:6 /x; stat -c %u:%g /x")
        #expect(result.output == "2\n5:6\n", "\(result)")
    }

    /// Capability sets: options and what /proc/self/status says.
    @Test(arguments: [
        ([], "0000000000000000"), (["--add-caps", "CAP_NET_RAW"], "0000000000002000"),
        (["--add-caps", "net_raw,chown"], "0000000000002001"),
        (["--add-caps", "net_raw", "--drop-caps", "net_raw"], "0000000000002000"),
    ]) func capabilitiesOfAnOrdinaryUser(_ options: [String], _ mask: String) throws {
        let lines = try sh(options, "grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status").output.split(separator: "\n")
        for line in lines.dropLast() { #expect(line.hasSuffix(mask), "\(line)") }
        #expect(lines.last == "NoNewPrivs:\t1")
    }

    @Test(.enabled(if: Site.isRoot, "needs root")) func capabilitiesOfRoot() throws {
        let own = try Run.program("/bin/grep", ["CapEff", "/proc/self/status"]).output
        #expect(try sh([], "grep CapEff /proc/self/status", as: .caller).output == own)
        #expect(try sh(["--no-privs"], "grep CapEff /proc/self/status", as: .caller).output == "CapEff:\t0000000000000000\n")
        #expect(
            try sh(["--no-privs", "--add-caps", "chown"], "grep CapEff /proc/self/status", as: .caller).output
                == "CapEff:\t0000000000000001\n")
        let dropped = try sh(["--drop-caps", "chown"], "grep CapBnd /proc/self/status", as: .caller).output
        #expect(UInt64(dropped.split(separator: "\t")[1].dropLast(), radix: 16).map { $0 & 1 == 0 } ?? false)
        #expect(
            try sh(["--security", "uid:7,gid:8:9"], "id -u; id -G; grep CapEff /proc/self/status", as: .caller).output
                == "7\n8 9\nCapEff:\t0000000000000000\n")
    }

    @Test func unknownCapabilitiesAreWarnedOf() throws {
        let result = try sh(["--add-caps", "nonsense"], "true")
        #expect(result.status == 0 && result.error.contains("there is no capability nonsense"))
    }

    @Test(arguments: ["--allow-setuid", "--keep-privs"]) func whatNeedsRootSaysSo(_ option: String) throws {
        let result = try sh([option], "true")
        #expect(result.status == 255 && result.error.contains("\(option) requires root"), "\(result)")
    }

    @Test func anotherIDMayBeHadInTheContainer() throws {
        #expect(try sh(["--security", "uid:7,gid:8"], "id -u; id -un; id -g").output == "7\nlp\n8\n")
        for bad in ["uid:x", "uid:4294967295", "uid:99999999999", "nonsense:1", "uid"] {
            #expect(try sh(["--security", bad], "true").status == 255)
        }
    }

    @Test func aSeccompProfileFiltersSystemCalls() throws {
        let scratch = try Scratch()
        let profile =
            #"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#
        let path = try scratch.write("profile.json", Array(profile.utf8))
        for identity in Site.isRoot ? [Run.Identity.ordinaryUser, .caller] : [.caller] {
            let result = try sh(["--security", "seccomp:\(path)"], "grep Seccomp: /proc/self/status; mkdir /tmp/not-made", as: identity)
            #expect(result.output == "Seccomp:\t2\n" && result.error.contains("Operation not supported"), "\(result)")
        }
        try scratch.write("profile.json", Array(#"{"defaultAction":"SCMP_ACT_NONSENSE"}"#.utf8))
        #expect(try sh(["--security", "seccomp:\(path)"], "true").status == 255)
    }

    /// A label that cannot be had is an error, never a program without it.
    @Test(arguments: ["apparmor:unconfined", "selinux:u:r:t:s0"]) func labelsThatCannotBeSetAreRefused(_ label: String) throws {
        let hasModule =
            FileManager.default.fileExists(atPath: "/sys/fs/selinux/enforce")
            || FileManager.default.fileExists(atPath: "/sys/module/apparmor")
        if hasModule { return }
        let result = try sh(["--security", label], "true")
        #expect(result.status == 255 && result.error.contains("is not enabled on this host"))
    }

    // MARK: Layers

    @Test func anOverlayDirectoryKeepsChanges() throws {
        let scratch = try Scratch()
        let options = ["--overlay", scratch.path]
        #expect(try sh(options, "echo kept > /usr/new && rm /usr/bin/perl && mkdir /usr/dir").status == 0)
        #expect(try sh(options, "cat /usr/new; ls /usr/bin/perl; ls -d /usr/dir").output == "kept\n/usr/dir\n")
        let readOnly = try sh(["--overlay", scratch.path + ":ro"], "cat /usr/new; ls /usr/bin/perl; echo x > /usr/other")
        #expect(readOnly.output == "kept\n" && readOnly.error.contains("Read-only file system"), "\(readOnly)")
        // Several: the last is on top, one may be written.
        let other = try Scratch("anOverlayDirectoryKeepsChanges2()")
        #expect(
            try sh(["--overlay", other.path, "--overlay", scratch.path + ":ro"], "cat /usr/new; echo two > /usr/new").output == "kept\n")
        #expect(try sh(["--overlay", "\(scratch.path):ro,\(other.path):ro"], "cat /usr/new").output == "two\n")
        #expect(try sh([], "ls /usr/new").status != 0)
    }

    @Test func overlaysThatExcludeEachOtherAreRefused() throws {
        let scratch = try Scratch()
        let other = try Scratch("overlaysThatExcludeEachOtherAreRefused2()")
        for (options, text) in [
            (["--overlay", scratch.path, "--overlay", other.path], "only one overlay can be written"),
            (["--overlay", scratch.path, "--writable"], "cannot use --overlay in conjunction with --writable"),
            (["--overlay", scratch.path, "--writable-tmpfs"], "cannot use --writable-tmpfs"),
            (["--overlay", "/no/such"], "/no/such: there is no such"),
            (["--writable"], "immutable image"),
        ] {
            let result = try sh(options, "true")
            #expect(result.status == 255 && result.error.contains(text), "\(result)")
        }
    }

    private func extImage(_ scratch: Scratch, _ name: String, from folder: String? = nil) throws -> String {
        let path = scratch.file(name)
        _ = FileManager.default.createFile(atPath: path, contents: nil)
        truncate(path, 64 << 20)
        let made = try Run.program("/sbin/mkfs.ext3", ["-q", "-F"] + (folder.map { ["-d", $0] } ?? []) + [path])
        try #require(made.status == 0, "\(made)")
        chmod(path, 0o666)
        return path
    }

    @Test func anExtImageIsAnOverlay() throws {
        let scratch = try Scratch()
        let tree = try Scratch("anExtImageIsAnOverlayTree()")
        for name in ["upper", "work"] {
            mkdir(tree.file(name), 0o777)
            chmod(tree.file(name), 0o777)
            if Site.isRoot { _ = try Run.program("/bin/chown", [Site.user, tree.file(name)]) }
        }
        let image = try extImage(scratch, "overlay.img", from: tree.path)
        let first = try sh(["--overlay", image], "echo kept > /usr/new && rm /usr/bin/perl; cat /usr/new")
        #expect(first.output == "kept\n", "\(first)")
        #expect(Wait.until(5) { (try? Run.program("/sbin/e2fsck", ["-fn", image]).status) == 0 })
        #expect(try sh(["--overlay", image], "cat /usr/new; ls /usr/bin/perl").output == "kept\n")
        let readOnly = try sh(["--overlay", image + ":ro"], "cat /usr/new; echo x > /usr/x")
        #expect(readOnly.output == "kept\n" && readOnly.error.contains("Read-only file system"), "\(readOnly)")
    }

    @Test func aSquashFSIsAnOverlayAndASourceOfBinds() throws {
        let scratch = try Scratch()
        let tree = try Scratch("aSquashFSIsAnOverlayTree()")
        mkdir(tree.file("sub"), 0o755)
        try tree.write("sub/file", Array("from the image\n".utf8))
        symlink("/etc/passwd", tree.file("link"))
        let image = scratch.file("data.sqfs")
        #expect(try Run.singularity("build", image, tree.path).status == 0)
        chmod(image, 0o644)
        #expect(try sh(["--overlay", image + ":ro"], "cat /sub/file").output == "from the image\n")
        #expect(try sh(["--overlay", image], "true").error.contains("add :ro"))
        #expect(try sh(["-B", "\(image):/mnt/a:image-src=/sub"], "cat /mnt/a/file").output == "from the image\n")
        #expect(
            try sh(["-B", "\(image):/mnt/f:image-src=/sub/file,\(scratch.path):/s"], "cat /mnt/f; ls /s").output
                == "from the image\ndata.sqfs\n")
        #expect(try sh(["--mount", "type=bind,src=\(image),dst=/mnt/b,image-src=/"], "cat /mnt/b/sub/file").output == "from the image\n")
        // A link of the image leads nowhere but into the image.
        let escape = try sh(["-B", "\(image):/mnt/l:image-src=/link"], "cat /mnt/l")
        #expect(escape.status == 255 && !escape.output.contains("root:"), "\(escape)")
        // The same from a partition of a SIF.
        let sif = scratch.file("data.sif")
        #expect(try Run.singularity("sif", "new", sif).status == 0)
        let added = try Run.singularity("sif", "add", "--datatype", "4", "--parttype", "3", "--partfs", "1", "--partarch", "2", sif, image)
        #expect(added.status == 0, "\(added)")
        chmod(sif, 0o644)
        for option in ["image-src=/", "id=1"] {
            let result = try sh(["-B", "\(sif):/mnt/p:\(option)"], "cat /mnt/p/sub/file")
            #expect(result.output == "from the image\n", "\(result)")
        }
    }

    @Test func anExtImageRunsAndIsASourceOfBinds() throws {
        let scratch = try Scratch()
        let root = try Scratch("anExtImageRunsRoot()")
        for name in ["bin", "etc", "proc", "dev", "sys", "tmp", "var/tmp", "root", "data"] {
            try FileManager.default.createDirectory(atPath: root.file(name), withIntermediateDirectories: true)
        }
        try FileManager.default.copyItem(atPath: "/bin/busybox", toPath: root.file("bin/busybox"))
        symlink("busybox", root.file("bin/sh"))
        chmod(root.file("data"), 0o777)
        try root.write("data/file", Array("in ext\n".utf8))
        let image = try extImage(scratch, "root.img", from: root.path)
        for identity in Site.isRoot ? [Run.Identity.ordinaryUser, .caller] : [.caller] {
            let result = try Run.program(
                Site.program, ["exec", image, "/bin/sh", "-c", "busybox cat /data/file; echo $SINGULARITY_NAME; busybox touch /data/new"],
                as: identity)
            #expect(result.output == "in ext\nroot.img\n" && result.error.contains("Read-only file system"), "\(result)")
        }
        let bound = try sh(["-B", "\(image):/mnt/e:image-src=/data"], "cat /mnt/e/file; echo new > /mnt/e/new; ls /mnt/e")
        #expect(bound.output == "in ext\nfile\nnew\n", "\(bound)")
        #expect(
            Wait.until(5) {
                (try? sh(["-B", "\(image):/mnt/e:image-src=/data,ro"], "cat /mnt/e/new; echo x > /mnt/e/x").output) == "new\n"
            })
    }

    @Test func mountPointsCanBeMadeWithoutAnOverlay() throws {
        let scratch = try Scratch()
        try scratch.write("file", Array("bound\n".utf8))
        let script = "cat /a/b/c/file; grep -c overlay /proc/self/mountinfo; id -un; ls -ld /usr/bin/env; echo x > /usr/x"
        let result = try sh(["--underlay", "-B", "\(scratch.path):/a/b/c"], script)
        let lines = result.output.split(separator: "\n")
        #expect(lines.prefix(2) == ["bound", "0"] && lines.count == 4 && result.error.contains("Read-only file system"), "\(result)")
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/fuse-overlayfs"), "needs fuse-overlayfs"))
    func theConfigurationChoosesTheLayer() throws {
        let scratch = try Scratch()
        let driver = try scratch.write("driver.conf", Array("enable overlay = driver\n".utf8))
        let none = try scratch.write("none.conf", Array("enable overlay = no\nenable underlay = no\n".utf8))
        let image = try Site.debian.get()
        func run(_ file: String, _ options: [String], _ script: String) throws -> Run {
            try Run.program(Site.program, ["--config", file, "exec"] + options + [image, "sh", "-c", script], as: .ordinaryUser)
        }
        #expect(
            try run(driver, ["--writable-tmpfs"], "echo x > /usr/x; cat /usr/x; grep -c fuse-overlayfs /proc/self/mountinfo").output
                == "x\n1\n")
        #expect(try run(none, ["--writable-tmpfs"], "true").error.contains("enable overlay = no"))
        let without = try run(none, [], "cat /etc/os-release")
        #expect(without.output.contains("Debian"), "\(without)")
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/fuse-overlayfs"), "needs fuse-overlayfs"))
    func aProgramOfTheHostServesADirectory() throws {
        let scratch = try Scratch()
        mkdir(scratch.file("lower"), 0o755)
        try scratch.write("lower/file", Array("served\n".utf8))
        // One that the host and not the container has; its directory is where the launcher puts containers together.
        let result = try sh(
            ["-c", "--fusemount", "host:fuse-overlayfs -f -o lowerdir=\(scratch.file("lower")) /mnt/served"],
            "cat /mnt/served/file; grep -c ' /mnt/served fuse' /proc/self/mounts")
        #expect(result.output == "served\n1\n", "\(result)")
        #expect(try sh(["--fusemount", "host:no-such-program /mnt/served"], "cat /mnt/served/file").status != 0)
    }

    // MARK: Mounts

    @Test func whatIsLeftOutIsNotThere() throws {
        let lines = try sh(["--no-mount", "tmp,home,cwd,sys,bind-paths"], "cut -d' ' -f5 /proc/self/mountinfo").output.split(
            separator: "\n")
        #expect(lines.allSatisfy { !["/tmp", "/var/tmp", "/sys", "/etc/hosts"].contains($0) && !$0.hasPrefix("/home") })
        #expect(try sh(["-c", "--no-mount", "devpts"], "ls /dev/pts").status != 0)
        #expect(try sh(["--no-mount", "nonsense"], "true").error.contains("there is no such mount"))
    }

    @Test func aSmallDevHasChosenDevices() throws {
        let names = try sh(["-c", "-B", "/dev/full"], "ls /dev").output.split(separator: "\n").map(String.init)
        for name in ["null", "zero", "full", "shm", "pts", "ptmx", "fd"] { #expect(names.contains(name), "\(names)") }
        #expect(!names.contains("fuse"))
    }

    @Test func aDestinationIsMountedOnce() throws {
        let scratch = try Scratch()
        try scratch.write("file", [])
        let result = try sh(["-B", "\(scratch.path):/mnt", "-B", "/usr:/mnt"], "ls /mnt")
        #expect(result.output == "file\n" && result.error.contains("already in the list"), "\(result)")
    }

    @Test func manyBindsAreTaken() throws {
        let scratch = try Scratch()
        var options: [String] = []
        for number in 0..<300 {
            try scratch.write("f\(number)", Array("\(number)\n".utf8))
            options += ["-B", "\(scratch.file("f\(number)")):/mnt/many/f\(number):ro"]
        }
        #expect(try sh(options, "cat /mnt/many/* | sort -n | tail -1; ls /mnt/many | wc -l").output == "299\n300\n")
    }

    // MARK: Environment

    @Test func valuesAreTakenByteForByte() throws {
        let hard = "line one\nline two \"quoted\" 'single' \\back $HOME `x` ünïcödé \u{1F600}\n"
        let long = String(repeating: "0123456789abcdef", count: 8000)
        for name in ["PLAIN", "SINGULARITYENV_INJECTED"] {
            let print = name == "PLAIN" ? "PLAIN" : "INJECTED"
            #expect(try exec(["--no-eval"], ["printenv", print], environment: [name: hard]).output == hard + "\n")
            #expect(try exec([], ["printenv", print], environment: [name: long]).output == long + "\n")
        }
        #expect(try exec([], ["printenv", "PLAIN"], environment: ["PLAIN": hard]).output == hard + "\n")
    }

    @Test func singleVariablesAreWithheld() throws {
        let set = ["ONE": "1", "TWO": "2"]
        #expect(try exec(["--no-env", "ONE"], ["sh", "-c", "echo $ONE-$TWO"], environment: set).output == "-2\n")
    }

    @Test func anEmptyEnvironmentIsEnough() throws {
        // Nextflow starts from `env -`: no HOME, no USER.
        let image = try Site.debian.get()
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        let result = try Run.program(
            "/usr/bin/env",
            [
                "-", "PATH=\(path)", Site.program, "exec", "--no-home", "--pid", "-B", "/usr:/mnt", image, "/bin/bash", "-c",
                "cd /tmp; id -un; echo $HOME",
            ],
            as: .ordinaryUser)
        #expect(result.status == 0 && result.output.split(separator: "\n").count == 2, "\(result)")
    }

    // MARK: Explaining

    @Test func thePlanIsPrintedAndNothingIsRun() throws {
        let scratch = try Scratch()
        let marker = scratch.file("marker")
        let options = ["--explain", "-C", "-B", "\(scratch.path):/data:ro", "--env", "A=1", "--memory", "1g", "--hostname", "h"]
        let text = try exec(options, ["touch", marker])
        for part in [
            "mount, pid, ipc, uts", "bind \(scratch.path) (read-only) on /data   # --bind", "A=1   # --env", "memory 1073741824 bytes",
            "capabilities: none", "touch \(marker)",
        ] { #expect(text.output.contains(part), "\(part): \(text)") }
        #expect(!FileManager.default.fileExists(atPath: marker))
        let json = try exec(options + ["--json"], ["touch", marker])
        let object = try #require(try JSONSerialization.jsonObject(with: json.bytes) as? [String: Any])
        #expect(object["namespaces"] as? [String] == (["user", "mount", "pid", "ipc", "uts"]))
        let mounts = try #require(object["mounts"] as? [[String: Any]])
        #expect(mounts.contains { $0["destination"] as? String == "/data" && $0["readOnly"] as? Bool == true })
        #expect(mounts.allSatisfy { !(($0["reason"] as? String) ?? "").isEmpty })
    }

    // MARK: Nesting

    @Test func aContainerStartsInAContainer() throws {
        let image = try Site.debian.get()
        let folder = URL(filePath: Site.program).deletingLastPathComponent().path
        let result = try sh(
            ["-B", "\(folder):/opt/own,\(Site.folder)"],
            "/opt/own/singularity exec \(image) sh -c 'echo inner; id -u; cat /etc/os-release | head -1'")
        let id = try Run.program("/usr/bin/id", ["-u"], as: .ordinaryUser).output
        #expect(result.output.hasPrefix("inner\n\(id)PRETTY"), "\(result)")
    }
}
