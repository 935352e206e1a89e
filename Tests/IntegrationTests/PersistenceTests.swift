import Foundation
import Testing

/// Writable partitions, data containers, snapshots and commits, as users of both kinds.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct PersistenceTests {
    static let identities: [Run.Identity] = Site.isRoot ? [.ordinaryUser, .caller] : [.caller]

    // MARK: Partitions

    @Test(arguments: identities) func aPartitionKeepsChangesAndTheImageStaysAsItIs(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let image = try place.image()
        let before = try Data(contentsOf: URL(filePath: place.scratch.file(image)))
        try place.must("overlay", "create", "--create-dir", "srv/made", image)
        #expect(place.blocks(image) < before.count + 10 << 20)
        let script =
            "echo one > /etc/new; rm /etc/debian_version; mv /etc/skel /etc/moved; echo more >> /etc/profile; rm -rf /usr/share/doc; mkdir /usr/share/doc"
        try place.must("exec", "--writable", image, "sh", "-c", script)
        let seen = try place.run(
            "exec", image, "sh", "-c",
            "cat /etc/new; ls -d /srv/made /etc/moved; ls /usr/share/doc; ls /etc/debian_version /etc/skel; touch /x")
        #expect(seen.output == "one\n/etc/moved\n/srv/made\n" && seen.error.contains("Read-only"), "\(seen)")
        // Nothing in front of the partition has changed but the list of objects.
        let after = try FileHandle(forReadingFrom: URL(filePath: place.scratch.file(image))).read(upToCount: before.count)
        #expect(after?[32_768...] == before[32_768...])
        let list = try place.must("sif", "list", image)
        #expect(list.contains("FS (Ext3/Overlay/"), "\(list)")
        let diff = try place.run("diff", image)
        let lines = Set(diff.output.split(separator: "\n").map(String.init))
        #expect(
            lines.isSuperset(of: ["A /etc/new", "D /etc/debian_version", "A /etc/moved", "D /etc/skel", "D /usr/share/doc/bash"]), "\(diff)"
        )
        try place.must("overlay", "discard", image)
        #expect(try place.run("diff", image).output.isEmpty)
        try place.must("overlay", "remove", image)
        #expect(try Data(contentsOf: URL(filePath: place.scratch.file(image)))[32_768...] == before[32_768...])
        let refused = try place.run("exec", "--writable", image, "true")
        #expect(refused.status == 255 && refused.error.contains("overlay create"), "\(refused)")
    }

    @Test(arguments: identities) func aCommitTakesAllChangesAndKeepsBlocks(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let image = try place.image()
        try place.must("overlay", "create", image)
        let script = """
            echo one > /etc/new; rm /etc/debian_version; mv /etc/skel /etc/moved; echo more >> /etc/profile; chmod 600 /etc/shells
            rm -rf /usr/share/doc; mkdir /usr/share/doc; echo x > /usr/share/doc/x; ln -s new /etc/link; ln /etc/new /etc/hard; mkfifo /etc/fifo
            """
        try place.must("exec", "--writable", image, "sh", "-c", script)
        let expected = try place.must(
            "exec", image, "sh", "-c", "cd /; find etc usr/share/doc -printf '%p %m %y %l\\n' | sort; cat etc/new etc/profile | md5sum")
        try place.must("commit", "-m", "some changes", image, "new.sif")
        let committed = try place.must(
            "exec", "new.sif", "sh", "-c", "cd /; find etc usr/share/doc -printf '%p %m %y %l\\n' | sort; cat etc/new etc/profile | md5sum")
        // Files that the program generates for a container stand in neither.
        #expect(expected == committed)
        // What did not change belongs to whom it belonged to, what is new is root's.
        let owners = try place.run("diff", "--times", try Site.debian.get(), "new.sif").output
        #expect(!owners.contains("owner"), "\(owners.split(separator: "\n").filter { $0.contains("owner") })")
        let history = try place.must("history", "new.sif")
        #expect(history.contains("some changes") && history.contains("image.sif"), "\(history)")
        #expect(try place.run("diff", image).status == 1)
        // In place: the partition is empty then.
        try place.must("commit", "--replace", image)
        #expect(try place.run("diff", image).output.isEmpty)
        #expect(try place.text(image, "/etc/new") == "one\n")
        try place.must("exec", "--writable", image, "sh", "-c", "echo two > /etc/new")
        #expect(try place.text(image, "/etc/new") == "two\n")
        try place.must("commit", "--replace", "-m", "second", image)
        let json = try place.must("history", "--json", image)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: [[String: Any]]])
        #expect(object["commits"]?.compactMap { $0["message"] as? String } == ["", "second"])
    }

    /// A signature is one of a group: what changes stands in another one.
    @Test func aSignedImageKeepsItsSignatures() throws {
        let place = try Place(as: .ordinaryUser)
        let copied = try Run.program(
            "/bin/cp", [Site.fixtures + "/tiny-two-signers.sif", place.scratch.file("signed.sif")], as: .ordinaryUser)
        try #require(copied.status == 0)
        chmod(place.scratch.file("signed.sif"), 0o644)
        let before = try place.must("sif", "list", "signed.sif").split(separator: "\n")
        let bytes = try Data(contentsOf: URL(filePath: place.scratch.file("signed.sif")))
        try place.must("overlay", "create", "signed.sif")
        try place.must("overlay", "check", "signed.sif")
        let after = try place.must("sif", "list", "signed.sif").split(separator: "\n")
        #expect(after.dropLast() == before[...])
        let words = after.last?.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) } ?? []
        #expect(words.count > 4 && words[1] == "2" && words[4].contains("Overlay"), "\(after)")
        let now = try FileHandle(forReadingFrom: URL(filePath: place.scratch.file("signed.sif"))).read(upToCount: bytes.count)
        #expect(now?[32_768...] == bytes[32_768...])
    }

    /// What the peers take has nothing that ext3 had not.
    @Test func anExt3PartitionStaysOne() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image()
        try place.must("overlay", "create", "--ext3", image)
        #expect(place.blocks(image) < 90 << 20)
        func features() throws -> String {
            let list = try place.must("sif", "list", image).split(separator: "\n").last ?? ""
            let start = try #require(
                list.split(separator: "|").dropFirst(3).first?.trimmingCharacters(in: .whitespaces).split(separator: "-").first)
            let result = try Run.program("/sbin/debugfs", ["-R", "features", place.scratch.file(image) + "?offset=\(start)"])
            return String(result.output.split(separator: "\n").last ?? "")
        }
        let allowed = Set(["has_journal", "ext_attr", "dir_index", "filetype", "sparse_super", "large_file"])
        let made = try features()
        #expect(Set(made.split(separator: " ").dropFirst(2).map(String.init)).isSubset(of: allowed), "\(made)")
        try place.must(
            "exec", "--writable", image, "sh", "-c",
            "rm -rf /etc/skel; mkdir /etc/skel; head -c 3000000 /dev/urandom > /opt/x; cp /opt/x /opt/y")
        #expect(try place.run("exec", image, "sh", "-c", "ls -A /etc/skel; cmp /opt/x /opt/y").status == 0)
        try place.must("overlay", "discard", image)
        try place.must("exec", "--writable", image, "touch", "/opt/z")
        #expect(Set(try features().split(separator: " ").dropFirst(2).map(String.init)).isSubset(of: allowed))
        #expect(try place.must("overlay", "check", image).contains("non-contiguous"))
    }

    @Test(.enabled(if: Site.isRoot, "needs root for capabilities of files")) func attributesAreCommitted() throws {
        let place = try Place(as: .caller)
        let image = try place.image()
        try place.must("overlay", "create", image)
        let script = """
            import os
            os.setxattr("/etc/shells", "user.kept", b"1"); open("/opt/tool", "w").close()
            os.chown("/opt/tool", 7, 8); os.chown("/etc/shells", 3, 4); os.chmod("/opt/tool", 0o4755)
            os.setxattr("/opt/tool", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
            """
        try place.must("exec", "--keep-privs", "--writable", image, "python3", "-c", script)
        try place.must("commit", image, "new.sif")
        let check = """
            import os
            s = os.stat("/opt/tool"); h = os.stat("/etc/shells")
            print(os.getxattr("/etc/shells", "user.kept"), os.getxattr("/opt/tool", "security.capability").hex(), s.st_uid, s.st_gid, oct(s.st_mode), h.st_uid, h.st_gid, os.listxattr("/etc/shells"))
            """
        let seen = try place.must("exec", "new.sif", "python3", "-c", check)
        #expect(seen == "b'1' 0100000200040000000000000000000000000000 7 8 0o104755 3 4 ['user.kept']\n", "\(seen)")
    }

    @Test(arguments: identities) func changesInADirectoryAreCommitted(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let image = try place.image()
        let made = try Run.program("/bin/mkdir", [place.scratch.file("over")], as: identity)
        try #require(made.status == 0)
        try place.must(
            "exec", "--overlay", "over", image, "sh", "-c", "echo one > /etc/new; rm /etc/debian_version; rm -rf /etc/skel; mkdir /etc/skel"
        )
        let diff = try place.run("diff", "--overlay", "over", image).output
        #expect(diff.contains("D /etc/debian_version") && !diff.contains("owner"), "\(diff)")
        try place.must("commit", "--replace", "--overlay", "over", image)
        let seen = try place.run("exec", image, "sh", "-c", "cat /etc/new; ls -A /etc/skel; ls /etc/debian_version")
        #expect(seen.output == "one\n" && seen.status != 0, "\(seen)")
        #expect(!FileManager.default.fileExists(atPath: place.scratch.file("over/upper")))
        // Again with what --fakeroot makes, where files may belong to others.
        try place.must("exec", "--fakeroot", "--overlay", "over", image, "sh", "-c", "echo two > /etc/second")
        try place.must("commit", "--overlay", "over", image, "new.sif")
        #expect(try place.text("new.sif", "/etc/second") == "two\n")
    }

    @Test func anInterruptedCommitLeavesTheImageAsItWas() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image()
        try place.must("overlay", "create", image)
        try place.must("exec", "--writable", image, "sh", "-c", "echo one > /etc/new")
        for milliseconds in stride(from: 2, to: 400, by: 37) {
            let commit = try place.start("commit", "--replace", image)
            usleep(useconds_t(milliseconds * 1000))
            kill(commit.identifier, SIGKILL)
            _ = commit.finish()
            // Before or after, and nothing between.
            #expect(try place.text(image, "/etc/new") == "one\n", "after \(milliseconds) ms")
        }
        try place.must("commit", "--replace", image)
        #expect(try place.text(image, "/etc/new") == "one\n")
        #expect(try place.run("diff", image).output.isEmpty)
        let left = place.scratch.names.filter { $0 != image && $0 != "conf" }
        #expect(left.isEmpty, "\(left)")
    }

    // MARK: One writer

    @Test(arguments: identities) func thereIsOneWriterAndTheNextIsToldWhoThatIs(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        try place.must("data", "create", "db.sif")
        try place.must("instance", "start", "--data", "db.sif:/mnt", Site.debian.get(), "writer")
        let refused = try place.run("exec", "--data", "db.sif:/mnt", Site.debian.get(), "true")
        #expect(refused.status == 255 && refused.error.contains("the instance writer") && refused.error.contains("process"), "\(refused)")
        let reader = try place.run("exec", "--data", "db.sif:/mnt:ro", Site.debian.get(), "true")
        #expect(reader.status == 255 && reader.error.contains("the instance writer"), "\(reader)")
        #expect(try place.must("data", "list").contains("the instance writer"))
        let held = try place.run("data", "snapshot", "db.sif")
        #expect(held.status == 255 && held.error.contains("the instance writer"), "\(held)")
        try place.must("instance", "stop", "writer")
        // Readers share; none may be there when one writes.
        let live = try place.start("exec", "--data", "db.sif:/mnt:ro", try Site.debian.get(), "sh", "-c", "echo up; sleep 3")
        #expect(live.waitFor("up"))
        #expect(try place.run("exec", "--data", "db.sif:/mnt:ro", Site.debian.get(), "true").status == 0)
        #expect(try place.run("exec", "--data", "db.sif:/mnt", Site.debian.get(), "true").error.contains("in use by another container"))
        _ = live.finish()
        #expect(try place.run("exec", "--data", "db.sif:/mnt", Site.debian.get(), "touch", "/mnt/x").status == 0)
    }

    @Test func theLeaseOfADeadHolderIsTakenOver() throws {
        let place = try Place(as: .ordinaryUser)
        try place.must("data", "create", "db.sif")
        func lease(_ host: String, _ pid: Int, space: String = "", age: Int) throws {
            let text = "\(host) \(pid) 12345 1@\(space) 1700000000 a container of job 77\n"
            let path = try place.scratch.write("db.sif.lease", Array(text.utf8))
            chmod(path, 0o666)
            if let account = getpwnam(Site.isRoot ? Site.user : NSUserName()) {
                chown(path, account.pointee.pw_uid, account.pointee.pw_gid)
            }
            let then = timeval(tv_sec: time(nil) - age, tv_usec: 0)
            utimes(path, [then, then])
        }
        var buffer = [CChar](repeating: 0, count: 256)
        gethostname(&buffer, 255)
        let host = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        // Of this host, with a process that is not there.
        let boot = try String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8).prefix { $0 != "\n" }
        var processes = stat()
        stat("/proc/self/ns/pid", &processes)
        try lease(host, 4_000_000, space: "\(boot)/\(processes.st_ino)", age: 0)
        #expect(try place.run("exec", "--data", "db.sif:/mnt", Site.debian.get(), "true").status == 0)
        // Of another host: alive as long as it was renewed within a minute.
        try lease("elsewhere", 77, age: 10)
        let refused = try place.run("exec", "--data", "db.sif:/mnt", Site.debian.get(), "true")
        #expect(refused.status == 255 && refused.error.contains("on the host elsewhere") && refused.error.contains("job 77"), "\(refused)")
        try lease("elsewhere", 77, age: 70)
        #expect(try place.run("exec", "--data", "db.sif:/mnt", Site.debian.get(), "true").status == 0)
    }

    // MARK: Data containers

    @Test(arguments: identities) func dataContainersAreMadeSharedExportedAndRestored(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        try place.must("data", "create", "--size", "512", "db.sif")
        let image = try Site.debian.get()
        try place.must("exec", "--data", "db.sif:/mnt", image, "sh", "-c", "echo one > /mnt/a; mkdir /mnt/d; ln -s a /mnt/d/l")
        #expect(try place.must("data", "snapshot", "db.sif", "first") == "first\n")
        try place.must("exec", "--data", "db.sif:/mnt", image, "sh", "-c", "rm -r /mnt/*; echo two > /mnt/b")
        try place.must("data", "restore", "db.sif", "first")
        #expect(
            try place.must("exec", "--data", "db.sif:/srv", image, "sh", "-c", "cat /srv/a; readlink /srv/d/l; ls /srv") == "one\na\na\nd\n"
        )
        let unknown = try place.run("data", "restore", "db.sif", "second")
        #expect(unknown.status == 255 && unknown.error.contains("there are first"), "\(unknown)")
        try place.must("data", "export", "db.sif", "out")
        #expect(try String(contentsOfFile: place.scratch.file("out/a"), encoding: .utf8) == "one\n")
        try place.must("data", "export", "db.sif", "out.tar")
        #expect(try Run.program("/bin/tar", ["-tf", place.scratch.file("out.tar")]).output.contains("d/l"))
        try place.must("data", "package", "fixed.sif", "out")
        let both = try place.run(
            "exec", "--data", "fixed.sif:/srv", "--data", "db.sif:/mnt", image, "sh", "-c",
            "cmp /srv/a /mnt/a && touch /mnt/c && touch /srv/c")
        #expect(both.status != 0 && both.error.contains("'/srv/c': Read-only"), "\(both)")
        let list = try place.must("data", "list")
        #expect(list.contains("db.sif") && list.contains("immutable") && list.contains("writable"), "\(list)")
        try place.must("data", "resize", "db.sif", "256")
        #expect(try place.must("exec", "--data", "db.sif:/srv:ro", image, "cat", "/srv/a") == "one\n")
        let info = try place.must("data", "info", "db.sif")
        #expect(info.contains("May grow to:  256.0 MiB") && info.contains("first"), "\(info)")
        let small = try place.run("data", "resize", "db.sif", "10")
        #expect(small.status == 255 && small.error.contains("64 MiB"))
        // A copy takes what is used, with our own command and with any other.
        try place.must("copy", "db.sif", "copy.sif")
        #expect(place.blocks("copy.sif") <= place.blocks("db.sif") + 1 << 20)
        #expect(try place.must("exec", "--data", "copy.sif:/srv", image, "cat", "/srv/a") == "one\n")
    }

    @Test(arguments: identities) func dataIsAttachedToAnInstanceThatRuns(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let image = try Site.debian.get()
        try place.must("data", "create", "db.sif")
        try place.must("instance", "start", image, "web")
        try place.must("data", "attach", "web", "db.sif:/mnt")
        try place.must("exec", "instance://web", "sh", "-c", "echo one > /mnt/a")
        let live = try place.start("exec", "instance://web", "sh", "-c", "cd /mnt; echo up; sleep 2")
        #expect(live.waitFor("up"))
        let busy = try place.run("data", "detach", "web", "/mnt")
        #expect(busy.status == 255 && busy.error.contains("is used by programs"), "\(busy)")
        _ = live.finish()
        try place.must("data", "detach", "web", "/mnt")
        #expect(try place.must("exec", "instance://web", "ls", "/mnt").isEmpty)
        #expect(try place.must("exec", "--data", "db.sif:/mnt", image, "cat", "/mnt/a") == "one\n")
        let missing = try place.run("data", "detach", "web", "/mnt")
        #expect(missing.status == 255 && missing.error.contains("no data container"))
        let nowhere = try place.run("data", "attach", "web", "db.sif:/not/there")
        #expect(nowhere.status == 255 && nowhere.error.contains("not there in the instance"), "\(nowhere)")
        #expect(try place.run("data", "attach", "other", "db.sif:/mnt").error.contains("no instance other"))
        // What is attached ends with the instance.
        try place.must("data", "attach", "web", "db.sif:/srv:ro")
        #expect(try place.must("exec", "instance://web", "cat", "/srv/a") == "one\n")
        try place.must("instance", "stop", "web")
        #expect(Wait.until(10) { Processes.living(named: "singularity-fs", with: place.scratch.file("db.sif")).isEmpty })
    }

    @Test func anImageSaysWhichDataItExpects() throws {
        let place = try Place(as: .ordinaryUser)
        let recipe = "Bootstrap: localimage\nFrom: \(try Site.debian.get())\n%labels\n    org.singularity.data /mnt /srv\n"
        try place.scratch.write("r.def", Array(recipe.utf8))
        try place.must("build", "r.sif", "r.def")
        try place.must("data", "create", "db.sif")
        let result = try place.run("exec", "--data", "db.sif:/srv", "r.sif", "true")
        #expect(result.status == 0 && result.error.contains("expects data at /mnt") && !result.error.contains("at /srv"), "\(result)")
    }

    // MARK: Trouble

    /// A full disk is an error of the program that writes, and nothing that was written before is lost.
    @Test(.enabled(if: Site.isRoot, "needs root to make a small disk"), arguments: identities) func aFullDiskLosesNothing(
        _ identity: Run.Identity
    ) throws {
        let place = try Place(as: identity)
        let disk = place.scratch.file("disk")
        try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
        let mounted = try Run.program("/bin/mount", ["-t", "tmpfs", "-o", "size=300M,mode=1777", "none", disk])
        try #require(mounted.status == 0)
        defer {
            _ = Wait.until(10) { Processes.living(named: "singularity-fs", with: disk).isEmpty }
            _ = try? Run.program("/bin/umount", [disk])
        }
        try place.must("data", "create", "disk/db.sif")
        let script = """
            cd /mnt; head -c 1000000 /dev/urandom > first; cp first keep; md5sum keep > sum; sync; i=0
            while cp first f$i && sync f$i; do i=$((i+1)); done; echo $i
            rm f0 f1 f2; cp first again && sync again && md5sum -c sum && for f in f3 f$((i-1)) again; do cmp first $f || exit 7; done
            """
        let result = try place.run("exec", "--data", "disk/db.sif:/mnt", Site.debian.get(), "sh", "-c", script)
        #expect(result.status == 0 && result.error.contains("No space left on device"), "\(result)")
        #expect(Int(result.output.split(separator: "\n").first ?? "") ?? 0 > 50, "\(result)")
        #expect(Wait.until(10) { Processes.living(named: "singularity-fs", with: disk).isEmpty })
        // It can be opened on the full disk, and cleaned up.
        try place.must("exec", "--data", "disk/db.sif:/mnt", Site.debian.get(), "sh", "-c", "cd /mnt && rm f* && md5sum -c sum")
        try place.must("data", "check", "disk/db.sif")
    }

    /// A database of the image that programs rewrite again and again, in each kind of writable layer.
    @Test(arguments: [["--writable-tmpfs"], ["--overlay", "folder"], ["--overlay", "file.img"], ["--data", "db.sif:/mnt"]])
    func aDatabaseThatIsRewrittenStaysWhole(_ options: [String]) throws {
        let place = try Place("aDatabaseThatIsRewritten-\(options.joined(separator: "-").filter(\.isLetter))", as: .ordinaryUser)
        let fill = """
            import sqlite3
            db = sqlite3.connect("db")
            db.execute("create table t(k integer primary key, v blob)")
            db.executemany("insert into t values(?, zeroblob(5000))", [(k,) for k in range(300)])
            db.commit()
            """
        try #require(try Run.program("/usr/bin/python3", ["-c", fill], in: place.scratch.path).status == 0)
        try place.scratch.write("d.def", Array("Bootstrap: localimage\nFrom: \(Site.debian.get())\n%files\n    db /srv/db\n".utf8))
        try place.must("build", "--ignore-subuid", "image.sif", "d.def")
        try #require(try Run.program("/bin/mkdir", [place.scratch.file("folder")], as: .ordinaryUser).status == 0)
        try place.must("overlay", "create", "file.img")
        try place.must("data", "create", "db.sif")
        let rewrite = """
            import os, random, shutil, sqlite3
            path = "/srv/db"
            if os.path.ismount("/mnt"):
                path = shutil.copy(path, "/mnt/db")
            random.seed(7)
            model = {k: bytes(5000) for k in range(300)}
            for mode in ("wal", "delete", "truncate"):
                db = sqlite3.connect(path)
                assert db.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
                for turn in range(45):
                    with db:
                        for _ in range(30):
                            k = random.randrange(500)
                            if random.random() < 0.2:
                                db.execute("delete from t where k = ?", (k,))
                                model.pop(k, None)
                            else:
                                model[k] = random.randbytes(random.randrange(1, 9000))
                                db.execute("insert or replace into t values(?, ?)", (k, model[k]))
                    if turn % 15 == 14:
                        db.execute("vacuum")
                db.close()
                db = sqlite3.connect(path)
                assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
                assert dict(db.execute("select k, v from t")) == model
                db.close()
            print("whole")
            """
        // The image's Python has no module for it.
        let result = try place.run(["exec", "--bind", "/usr"] + options + ["image.sif", "python3", "-c", rewrite])
        #expect(result.output == "whole\n", "\(result)")
    }

    @Test(arguments: identities) func whatIsFreeIsWhatTheHostHas(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        try place.must("data", "create", "db.sif")
        let inside = try place.must("exec", "--data", "db.sif:/mnt", Site.debian.get(), "stat", "-f", "-c", "%a %S", "/mnt")
        let numbers = inside.split(whereSeparator: \.isWhitespace).compactMap { Double($0) }
        try #require(numbers.count == 2, "\(inside)")
        var host = statvfs()
        try #require(statvfs(place.scratch.path, &host) == 0)
        let share = numbers[0] * numbers[1] / (Double(host.f_bavail) * Double(host.f_frsize))
        // Other tests write meanwhile.
        #expect(share > 0.5 && share < 1.2, "\(inside): \(share)")
    }

    /// The kernel's journals are replayed too.
    @Test(.enabled(if: Site.isRoot, "needs root to mount")) func aCrashOfTheKernelsDriverIsRepaired() throws {
        let place = try Place(as: .caller)
        let image = place.scratch.file("k.img")
        try Data().write(to: URL(filePath: image))
        truncate(image, 256 << 20)
        try #require(try Run.program("/sbin/mkfs.ext4", ["-q", "-F", image]).status == 0)
        let mount = place.scratch.file("mount")
        try FileManager.default.createDirectory(atPath: mount, withIntermediateDirectories: true)
        try #require(try Run.program("/bin/mount", ["-o", "loop", image, mount]).status == 0)
        defer { _ = try? Run.program("/bin/umount", [mount]) }
        let script =
            "cd \(mount); mkdir upper work; for i in $(seq 300); do echo $i > upper/f$i; done; rm upper/f7; sync; cp --sparse=always \(image) \(place.scratch.file("crash.img"))"
        try #require(try Run.program("/bin/sh", ["-c", script]).status == 0)
        let seen = try place.run("exec", "--overlay", "crash.img", Site.debian.get(), "sh", "-c", "cat /f300; ls /f* | wc -l")
        #expect(seen.output == "300\n299\n", "\(seen)")
    }

    /// Whatever the server of files is doing when it is killed: what was synchronised is there, and the file system is well.
    @Test(arguments: [false, true]) func aKilledServerLosesNothingThatWasSynchronised(_ isEncrypted: Bool) throws {
        let place = try Place("aKilledServer-\(isEncrypted)", as: .ordinaryUser)
        try place.scratch.write("phrase", Array("hunter2\n".utf8))
        let key = isEncrypted ? ["--passphrase-file", "phrase"] : []
        try place.must(["data", "create"] + key + ["db.sif"])
        let image = try Site.debian.get()
        let script = """
            cd /mnt; rm -rf d; mkdir d; i=0
            while :; do i=$((i+1)); echo $i > d/f$i; head -c $((i * 977 % 60000)) /dev/zero >> d/f$i; ln -s f$i d/l$i; mv d/f$i d/g$i
            [ $((i % 3)) = 0 ] && rm d/g$((i / 3)) 2>/dev/null; sync d/g$i d && echo $i; done
            """
        for round in 0..<8 {
            let live = try place.start(["exec"] + key + ["--data", "db.sif:/mnt", image, "sh", "-c", script])
            #expect(live.waitFor("\n5\n"))
            usleep(useconds_t(round * 41_000))
            let server = try #require(Processes.living(named: "singularity-fs", with: place.scratch.file("db.sif")).last)
            // It reads what programs have written, and can do little else.
            let status = try String(contentsOfFile: "/proc/\(server)/status", encoding: .utf8)
            #expect(status.contains("Seccomp:\t2\n") && status.contains("CapEff:\t0000000000000000\n"), "\(status)")
            kill(server, SIGKILL)
            usleep(50_000)
            kill(live.identifier, SIGKILL)
            let result = live.finish()
            let last = Int(result.output.split(separator: "\n").last ?? "") ?? 0
            #expect(last > 4)
            let check = "cd /mnt/d; for i in $(seq \(last)); do [ $(head -1 g$i) = $i ] && [ $(readlink l$i) = f$i ] || echo bad $i; done"
            let seen = try place.run(["exec"] + key + ["--data", "db.sif:/mnt", image, "sh", "-c", check])
            let bad = seen.output.split(separator: "\n").compactMap { Int($0.dropFirst(4)) }
            // Some were removed on purpose.
            #expect(seen.status == 0 && bad.allSatisfy { $0 * 3 <= last + 3 }, "round \(round), \(last): \(seen)")
        }
        #expect(try place.must(["data", "check"] + key + ["db.sif"]).contains("non-contiguous"))
    }

    /// Several readers that come at once after a crash: one of them repairs, and all read.
    @Test func readersAfterACrashShareOneRepair() throws {
        let place = try Place(as: .ordinaryUser)
        try place.must("data", "create", "db.sif")
        let image = try Site.debian.get()
        let writer = try place.start(
            "exec", "--data", "db.sif:/mnt", image, "sh", "-c",
            "for i in $(seq 200); do echo $i > /mnt/f$i; done; sync /mnt; echo up; sleep 20")
        #expect(writer.waitFor("up"))
        kill(try #require(Processes.living(named: "singularity-fs", with: place.scratch.file("db.sif")).last), SIGKILL)
        kill(writer.identifier, SIGKILL)
        _ = writer.finish()
        let readers = try (0..<6).map { _ in
            try place.start("exec", "--data", "db.sif:/mnt:ro", image, "sh", "-c", "ls /mnt | wc -l; sleep 1")
        }
        for reader in readers {
            let result = reader.finish()
            #expect(result.status == 0 && result.output == "200\n" || result.error.contains("being written by"), "\(result)")
        }
        #expect(try place.must("exec", "--data", "db.sif:/mnt:ro", image, "cat", "/mnt/f200") == "200\n")
    }

    @Test func mistakesAreExplained() throws {
        let place = try Place(as: .ordinaryUser)
        let image = try place.image()
        func message(_ words: String...) throws -> String {
            let result = try place.run(words)
            #expect(result.status == 255, "\(words): \(result)")
            return result.error
        }
        #expect(try message("overlay", "create", "--size", "10", image).contains("equal or greater than 64 MiB"))
        #expect(try message("overlay", "create", "/etc/passwd").contains("Permission denied"))
        try place.must("overlay", "create", image)
        #expect(try message("overlay", "create", image).contains("already exists"))
        #expect(try message("exec", "--writable", "--overlay", "x", image, "true").contains("cannot use --overlay"))
        #expect(try message("commit", "--overlay", "nowhere", image, "n.sif").contains("nowhere"))
        #expect(try message("commit", image, image).contains("there already"))
        #expect(try message("data", "create", image).contains("there already"))
        #expect(try message("data", "info", "/etc/passwd").contains("neither a SIF nor"))
        #expect(try message("exec", "--data", "nix:/mnt", image, "true").contains("No such file"))
        #expect(try message("exec", "--data", "nix", image, "true").contains("FILE:DIRECTORY"))
        #expect(try message("history", "/etc/passwd").contains("not a SIF"))
        // A file system that no repair without a question can mend.
        try place.must("data", "create", "bad.sif")
        let path = place.scratch.file("bad.sif")
        let bytes = try FileHandle(forUpdating: URL(filePath: path))
        try bytes.seek(toOffset: 32_768 + 1024 + 58)
        try bytes.write(contentsOf: Data([0, 0]))
        try bytes.seek(toOffset: 32_768 + 4096)
        try bytes.write(contentsOf: Data(repeating: 0xff, count: 4096))
        try bytes.close()
        let bad = try message("exec", "--data", "bad.sif:/mnt", image, "true")
        #expect(bad.contains("check --repair"), "\(bad)")
    }

    // MARK: Going back

    @Test func aCommitCanBeTakenBackAndAgain() throws {
        let place = try Place()
        let image = try place.image()
        func version() throws -> String { try place.run("exec", "--no-home", image, "cat", "/opt/version").output }
        func commit(_ text: String, _ options: String...) throws {
            try FileManager.default.createDirectory(atPath: place.scratch.file("over"), withIntermediateDirectories: true)
            chmod(place.scratch.file("over"), 0o777)
            try place.must("exec", "--no-home", "--overlay", "over", image, "sh", "-c", "echo \(text) > /opt/version")
            try place.must(["commit", "--replace", "--overlay", "over"] + options + [image])
        }
        #expect(try place.run("rollback", image).error.contains("no former image of"))
        try commit("one")
        try commit("two", "--keep")
        try commit("three", "--keep=second")
        #expect(try version() == "three\n")
        let signed = place.blocks(image)
        try place.must("rollback", image)
        #expect(try version() == "two\n" && place.blocks(image) <= signed)
        // And forward again: nothing is lost by going back.
        try place.must("rollback", image)
        #expect(try version() == "three\n")
        let listed = try place.must("rollback", "--list", image).split(separator: "\n")
        #expect(listed.count == 3, "\(listed)")
        let oldest = try #require(listed.dropFirst().first?.split(separator: " ").first.map(String.init))
        try place.must("rollback", image, oldest)
        #expect(try version() == "one\n")
        #expect(try place.must("history", image).split(separator: "\n").filter { $0.contains("+") }.count == 1)
        for bad in ["../x", "none", ".hidden"] { #expect(try place.run("rollback", image, bad).status == 255, "\(bad)") }
        #expect(try place.run("rollback", image, "none").error.contains("there are "))
        for line in try place.must("rollback", "--list", image).split(separator: "\n").dropFirst() {
            try place.must("rollback", "--remove", image, String(line.split(separator: " ")[0]))
        }
        #expect(place.scratch.names.sorted() == [image, "over"])
        #expect(try place.run("commit", "--keep", image, "new.sif").error.contains("--keep is for --replace"))
    }

    @Test func anImageThatIsWrittenIsNotRolledBack() throws {
        let place = try Place()
        let image = try place.image()
        try place.must("overlay", "create", image)
        try place.must("exec", "--writable", "--no-home", image, "sh", "-c", "echo new > /opt/file")
        try place.must("commit", "--replace", "--keep", image)
        let live = try place.start("exec", "--writable", image, "sh", "-c", "echo ready; exec sleep 4326")
        #expect(live.waitFor("ready"))
        let refused = try place.run("rollback", image)
        #expect(refused.status == 255 && refused.error.contains("is being written by"), "\(refused)")
        kill(live.identifier, SIGKILL)
        _ = live.finish()
        #expect(Wait.until(10) { (try? place.run("rollback", image).status) == 0 })
        // It has the changes that had not been committed then.
        #expect(try place.must("exec", "--writable", "--no-home", image, "cat", "/opt/file") == "new\n")
        #expect(try place.run("diff", image).output.contains("/opt/file"))
    }
}
