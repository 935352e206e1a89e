import Foundation
import Testing

/// Containers that stay in the background.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"), .serialized)
struct InstanceTests {
    private func image() throws -> String { try Site.debian.get() }

    /// An image with a start script.
    private func image(startScript: String, _ scratch: Scratch) throws -> String {
        let recipe =
            "Bootstrap: localimage\nFrom: \(try image())\n%startscript\n\(startScript)\n%runscript\n    echo run; exec sleep 4322\n"
        let path = scratch.file("service.sif")
        let built = try Run.singularity(
            "build", "--force", path, try scratch.write("service.def", Array(recipe.utf8)),
            environment: ["SINGULARITY_CACHEDIR": scratch.file("cache")])
        try #require(built.status == 0, "\(built)")
        chmod(path, 0o644)
        return path
    }

    @Test(arguments: Site.isRoot ? [Run.Identity.ordinaryUser, .caller] : [.caller]) func oneIsStartedListedEnteredAndStopped(
        _ identity: Run.Identity
    ) throws {
        let place = try Place(as: identity)
        #expect(try place.run("instance", "list").output == "INSTANCE NAME    PID     IP      IMAGE\n")
        let started = try place.run("instance", "start", "--env", "ONLY=start", image(), "web", environment: ["FROM_HOST": "1"])
        #expect(started.status == 0 && started.error.contains("instance started successfully"), "\(started)")
        let again = try place.run("instance", "start", image(), "web")
        #expect(again.status == 255 && again.error.contains("instance web already exists"))
        let pid = try place.pid("web")
        let json = try place.run("instance", "list", "--json")
        let object = try #require(try JSONSerialization.jsonObject(with: json.bytes) as? [String: [[String: Any]]])
        #expect(object["instances"]?.first?["pid"] as? Int == Int(pid))
        #expect(object["instances"]?.first?["img"] as? String == (try image()))
        let inside = try place.run(
            [
                "exec", "instance://web", "sh", "-c",
                "echo $SINGULARITY_INSTANCE $SINGULARITY_NAME ${ONLY-unset} $FROM_HOST; cat /proc/1/comm; id -u; readlink /proc/self/ns/pid",
            ],
            environment: ["FROM_HOST": "2"])
        let lines = inside.output.split(separator: "\n").map(String.init)
        #expect(lines.prefix(2) == ["web debian.sif unset 2", "sinit"], "\(inside)")
        #expect(lines.last == (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/ns/pid")))
        #expect(try place.run("exec", "instance://web", "sh", "-c", "exit 7").status == 7)
        #expect(try place.run("exec", "instance://web", "sh", "-c", "kill -9 $$").status == 137)
        #expect(try place.run("exec", "-B", "/usr:/mnt", "instance://web", "true").error.contains("--bind has no effect"))
        let stopped = try place.run("instance", "stop", "web")
        #expect(stopped.error.contains("Stopping web instance of \(try image()) (PID=\(pid))"))
        #expect(Processes.isGone(pid))
        #expect(try place.run("exec", "instance://web", "true").status == 255)
        #expect(try place.run("instance", "list").output.split(separator: "\n").count == 1)
    }

    @Test func aFakeRootInstanceIsEnteredAsRoot() throws {
        let place = try Place()
        #expect(try place.run("instance", "start", "--fakeroot", image(), "root").status == 0)
        let result = try place.run("exec", "instance://root", "sh", "-c", "id -u; grep CapEff /proc/self/status")
        #expect(result.output.hasPrefix("0\n") && result.output.hasSuffix("ffffffff\n"), "\(result)")
    }

    @Test func startScriptsGetArgumentsAndTheirOutputIsKept() throws {
        let place = try Place()
        let path = try image(startScript: "    echo \"started with $*\"; echo problem >&2; exec sleep 4321", place.scratch)
        #expect(try place.run("instance", "start", path, "svc", "one", "two").status == 0)
        #expect(Wait.until(5) { (try? place.run("instance", "logs", "svc").output) == "started with one two\n" })
        #expect(try place.run("instance", "logs", "--stderr", "svc").output == "problem\n")
        let logs = try place.run("instance", "list", "--logs").output
        #expect(logs.contains("/svc.err") && logs.contains("/svc.out"))
        // The logs are where the peers' tools look, and stay.
        let host = try Run.program("/bin/uname", ["-n"]).output.dropLast()
        let user = try Run.program("/usr/bin/id", ["-un"], as: .ordinaryUser).output.dropLast()
        let file = place.scratch.file("conf/instances/logs/\(host)/\(user)/svc.out")
        #expect(try place.run("instance", "stop", "svc").status == 0)
        #expect(FileManager.default.fileExists(atPath: file))
        #expect(try place.run("instance", "run", path, "runs").status == 0)
        #expect(Wait.until(5) { (try? place.run("instance", "logs", "runs").output) == "run\n" })
    }

    @Test func aScriptThatFailsAtOnceIsAFailedStart() throws {
        let place = try Place()
        let path = try image(startScript: "    echo broken >&2; exit 3", place.scratch)
        // On a busy machine the script may not have got far enough when it is looked at.
        var result = try place.run("instance", "start", path, "bad")
        for _ in 0..<5 where result.status == 0 {
            #expect(Wait.until(5) { (try? place.run("instance", "list").output.split(separator: "\n").count) == 1 })
            result = try place.run("instance", "start", path, "bad")
        }
        #expect(result.status == 255 && result.error.contains("failed to start the instance bad"), "\(result)")
        #expect(result.error.contains("broken"))
        #expect(try place.run("instance", "list").output.split(separator: "\n").count == 1)
    }

    @Test func aServiceThatTheScriptLeavesBehindIsStoppedGently() throws {
        let place = try Place()
        let marker = place.scratch.file("marker")
        let path = try image(
            startScript: "    (trap 'echo gentle > \(marker); exit' INT TERM; while :; do sleep 0.05; done) >/dev/null 2>&1 &\n    exit 0",
            place.scratch)
        #expect(try place.run("instance", "start", "-B", place.scratch.path, path, "svc").status == 0)
        let pid = try place.pid("svc")
        usleep(300_000)
        #expect(!Processes.isGone(pid))
        // A shell ignores SIGINT in the background; SIGTERM it takes.
        #expect(try place.run("instance", "stop", "--signal", "TERM", "svc").status == 0)
        #expect((try? String(contentsOfFile: marker, encoding: .utf8)) == "gentle\n")
        #expect(Processes.isGone(pid))
    }

    @Test func aProgramThatFailsIsStartedAgain() throws {
        let place = try Place()
        let counter = place.scratch.file("count")
        let path = try image(
            startScript: "    echo x >> \(counter)\n    sleep 0.02\n    [ $(wc -l < \(counter)) -ge 3 ] && exec sleep 4321\n    exit 9",
            place.scratch)
        #expect(try place.run("instance", "start", "--restart", "on-failure", "-B", place.scratch.path, path, "svc").status == 0)
        #expect(Wait.until(10) { ((try? String(contentsOfFile: counter, encoding: .utf8)) ?? "").count == 6 })
        usleep(200_000)
        let pid = try place.pid("svc")
        #expect(!Processes.isGone(pid))
        // The program, not the instance, is killed: it is back within a second.
        _ = try place.run("exec", "instance://svc", "sh", "-c", "kill -9 $(grep -l sleep /proc/[0-9]*/comm | cut -d/ -f3)")
        #expect(Wait.until(2) { ((try? String(contentsOfFile: counter, encoding: .utf8)) ?? "").count == 8 })
        #expect(try place.run("instance", "stop", "svc").status == 0)
        #expect(Processes.isGone(pid))
        // With a limit it gives up.
        try? FileManager.default.removeItem(atPath: counter)
        let bad = try image(startScript: "    echo x >> \(counter)\n    sleep 0.02\n    exit 9", place.scratch)
        #expect(try place.run("instance", "start", "--restart", "on-failure:2", "-B", place.scratch.path, bad, "limited").status == 0)
        #expect(Wait.until(5) { (try? place.run("instance", "list").output.split(separator: "\n").count) == 1 })
        #expect((try? String(contentsOfFile: counter, encoding: .utf8)) == "x\nx\nx\n")
    }

    @Test func severalAreStoppedByPattern() throws {
        let place = try Place()
        for name in ["web1", "web2", "db"] { #expect(try place.run("instance", "start", image(), name).status == 0) }
        #expect(try place.run("instance", "list", "web*").output.split(separator: "\n").count == 3)
        #expect(try place.run("instance", "stop", "web*").status == 0)
        #expect(try place.run("instance", "list").output.split(separator: "\n").count == 2)
        #expect(try place.run("instance", "stop", "--all").status == 0)
        let none = try place.run("instance", "stop", "web1")
        #expect(none.status == 1 && none.error.contains("no instance found"))
        for bad in ["../x", "a/b", "", "a b", "."] {
            #expect(try place.run("instance", "start", image(), bad).status == 255, "\(bad)")
        }
        #expect(try place.run("exec", "instance://none", "true").status == 255)
    }

    /// Each process of an instance is killed in turn.
    @Test(arguments: ["init", "supervisor"]) func nothingIsLeftWhenOneOfItsProcessesIsKilled(_ which: String) throws {
        let place = try Place()
        let data = place.scratch.file("data")
        let path = try image(startScript: "    i=0; while :; do i=$((i + 1)); echo $i >> \(data); sleep 0.01; done", place.scratch)
        #expect(try place.run("instance", "start", "-B", place.scratch.path, path, "svc").status == 0)
        let pid = try place.pid("svc")
        let stat = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
        let parent = try #require(pid_t(stat.split(separator: ")")[1].split(separator: " ")[1]))
        #expect(Wait.until(5) { ((try? String(contentsOfFile: data, encoding: .utf8)) ?? "").count > 20 })
        let title = String(decoding: try Data(contentsOf: URL(filePath: "/proc/\(parent)/cmdline")).prefix { $0 != 0 }, as: UTF8.self)
        #expect(title.hasPrefix("Singularity instance: "))
        kill(which == "init" ? pid : parent, SIGKILL)
        #expect(Wait.until(5) { Processes.isGone(pid) && Processes.isGone(parent) })
        #expect(try place.run("instance", "list").output.split(separator: "\n").count == 1)
        // What was written is there, line after line.
        let lines = try String(contentsOfFile: data, encoding: .utf8).split(separator: "\n")
        #expect(lines.enumerated().allSatisfy { Int($0.element) == $0.offset + 1 })
        #expect(try place.run("instance", "start", image(), "svc").status == 0)
    }

    /// Files that somebody else could have made say nothing about processes.
    @Test func forgedRecordsAreNotBelieved() throws {
        let place = try Place()
        #expect(try place.run("instance", "start", image(), "real").status == 0)
        let host = try Run.program("/bin/uname", ["-n"]).output.dropLast()
        let user = try Run.program("/usr/bin/id", ["-un"], as: .ordinaryUser).output.dropLast()
        let folder = place.scratch.file("conf/instances/sing/\(host)/\(user)")
        let text = try String(contentsOfFile: "\(folder)/real/real.json", encoding: .utf8)
        let own = getpid()
        let pattern = try Regex("\"pid\":[0-9]+")
        for name in ["forged"] {
            let forged = text.replacing("\"name\":\"real\"", with: "\"name\":\"\(name)\"").replacing(pattern, with: "\"pid\":\(own)")
            try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
            chmod("\(folder)/\(name)", 0o777)
            try forged.write(toFile: "\(folder)/\(name)/\(name).json", atomically: true, encoding: .utf8)
            chmod("\(folder)/\(name)/\(name).json", 0o666)
            if Site.isRoot { _ = try Run.program("/bin/chown", ["-R", String(user), "\(folder)/\(name)"]) }
            #expect(try place.run("exec", "instance://\(name)", "true").status == 255)
            #expect(try place.run("instance", "stop", "--force", name).status == 1)
        }
        #expect(kill(own, 0) == 0)
    }

    @Test func statisticsAndAUnitFileAreGiven() throws {
        let place = try Place()
        let pidFile = place.scratch.file("pid")
        #expect(try place.run("instance", "start", "--pid-file", pidFile, "--env", "A=50% $x", image(), "svc").status == 0)
        #expect((try? String(contentsOfFile: pidFile, encoding: .utf8)) == "\(try place.pid("svc"))\n")
        let table = try place.run("instance", "stats", "--no-stream", "svc").output.split(separator: "\n")
        #expect(table.count == 2 && table[0].hasPrefix("INSTANCE NAME    CPU USAGE    MEM USAGE / LIMIT"))
        #expect(table[1].hasSuffix(" 1"), "\(table)")
        let json = try place.run("instance", "stats", "--json", "svc")
        let object = try #require(try JSONSerialization.jsonObject(with: json.bytes) as? [String: [String: Any]])
        #expect(object["pids_stats"]?["current"] as? Int == 1)
        #expect(try place.run("instance", "stats", "none").status == 1)
        let unit = try place.run("instance", "unit", "svc").output
        #expect(unit.contains("Type=forking") && unit.contains("\"A=50%% $$x\"") && !unit.contains("--pid-file"), "\(unit)")
        let file = try place.scratch.write("svc.service", Array(unit.utf8))
        if FileManager.default.isExecutableFile(atPath: "/usr/bin/systemd-analyze") {
            let check = try Run.program("/usr/bin/systemd-analyze", ["verify", "--man=no", file])
            #expect(!check.error.contains("svc.service:"), "\(check)")
        }
        #expect(try place.run("instance", "stop", "svc").status == 0)
        #expect(!FileManager.default.fileExists(atPath: pidFile))
    }
}
