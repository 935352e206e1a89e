import Foundation
import Testing

/// Instances as services: their health, their logs, and the networks of groups.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"), .serialized)
struct ServiceTests {
    static let mayTun = access("/dev/net/tun", R_OK | W_OK) == 0

    /// An image with a start script, and labels.
    private func image(_ place: Place, startScript: String, labels: String = "") throws -> String {
        let recipe = """
            Bootstrap: localimage
            From: \(try Site.debian.get())
            %labels
                made yes
            \(labels)
            %startscript
            \(startScript)
            """
        let path = place.scratch.file("service.sif")
        let built = try Run.singularity(
            "build", "--force", path, try place.scratch.write("service.def", Array(recipe.utf8)),
            environment: ["SINGULARITY_CACHEDIR": place.scratch.file("cache")])
        try #require(built.status == 0, "\(built)")
        chmod(path, 0o644)
        return path
    }

    private func health(_ place: Place, _ name: String, wait: String = "0") throws -> (state: String, status: Int32, object: [String: Any])
    {
        let result = try place.run("instance", "health", "--json", "--wait=\(wait)", name)
        let object = try #require(try JSONSerialization.jsonObject(with: result.bytes) as? [String: Any], "\(result)")
        return (object["state"] as? String ?? "", result.status, object)
    }

    private func lists(_ place: Place, _ name: String, _ word: String) -> Bool {
        let lines = (try? place.run("instance", "list").output.split(separator: "\n")) ?? []
        return lines.contains { $0.hasPrefix("\(name) ") && $0.hasSuffix(" \(word)") }
    }

    // MARK: Health

    @Test(arguments: Site.isRoot ? [Run.Identity.ordinaryUser, .caller] : [.caller]) func healthIsAskedAfter(_ identity: Run.Identity)
        throws
    {
        let place = try Place(as: identity)
        let well = place.scratch.file("well")
        try place.must(
            "instance", "start", "-B", place.scratch.path, "--health-cmd", "echo asked $FROM; test -e \(well)", "--env", "FROM=env",
            "--health-interval", "100ms", "--health-retries", "2", "--health-start-period", "1h", Site.debian.get(), "svc")
        #expect(try health(place, "svc").state == "starting" && health(place, "svc").status == 1)
        try place.scratch.write("well", [])
        let now = try health(place, "svc", wait: "10s")
        #expect(now.state == "healthy" && now.status == 0 && now.object["output"] as? String == "asked env\n")
        #expect(lists(place, "svc", "healthy"))
        unlink(well)
        #expect(Wait.until(10) { lists(place, "svc", "unhealthy") })
        let ill = try place.run("instance", "health", "svc")
        #expect(ill.status == 1 && ill.output.contains("with status 1") && ill.output.contains("  asked env"), "\(ill)")
        // It runs on: nobody has asked for more than a word.
        #expect(try place.run("exec", "instance://svc", "true").status == 0)
        #expect(try place.run("instance", "list", "--json").output.contains("\"health\": \"unhealthy\""))
    }

    @Test func aSickProgramIsStartedAgain() throws {
        let place = try Place()
        let (starts, sick) = (place.scratch.file("starts"), place.scratch.file("sick"))
        // It does not listen to SIGTERM while it is sick, as programs that hang do not.
        let path = try image(place, startScript: "    echo x >> \(starts); trap '' TERM; while :; do sleep 0.1; done")
        try place.must(
            "instance", "start", "-B", place.scratch.path, "--health-cmd", "test ! -e \(sick)", "--health-interval", "100ms",
            "--health-on-failure", "restart", path, "svc")
        #expect(try health(place, "svc", wait: "10s").state == "healthy")
        try place.scratch.write("sick", [])
        // SIGKILL comes ten seconds after SIGTERM.
        #expect(Wait.until(30) { (try? String(contentsOfFile: starts, encoding: .utf8)) == "x\nx\n" })
        unlink(sick)
        #expect(try health(place, "svc", wait: "10s").state == "healthy")
        let pid = try place.pid("svc")
        try place.must("instance", "stop", "--force", "svc")
        #expect(Processes.isGone(pid))
    }

    @Test func aSickInstanceIsStopped() throws {
        let place = try Place()
        try place.must(
            "instance", "start", "--health-cmd", "sleep 100", "--health-interval", "50ms", "--health-timeout", "50ms",
            "--health-start-period", "0", "--health-on-failure", "stop", Site.debian.get(), "svc")
        #expect(Wait.until(10) { (try? place.run("instance", "list").output.split(separator: "\n").count) == 1 })
        #expect(Processes.living(named: "sleep", with: "sleep\u{0}100").isEmpty)
    }

    @Test func anImageSaysHowItsHealthIsFound() throws {
        let place = try Place()
        let path = try image(
            place, startScript: "    exec sleep 4323",
            labels: "    org.singularity.health printf 'one\\n\\033[31mtwo\\n'; exit 4\n    org.singularity.health.interval 100ms")
        try place.must("instance", "start", path, "svc")
        #expect(
            Wait.until(5) {
                guard let now = try? health(place, "svc") else { return false }
                return now.object["status"] as? Int == 4 && now.object["output"] as? String == "one\n\u{1b}[31mtwo\n"
            })
        // What it says cannot do something to the terminal.
        let shown = try place.run("instance", "health", "svc").output
        #expect(shown.contains("  one\n  \u{fffd}[31mtwo"), "\(shown)")
        try place.must("instance", "start", "--health-cmd", "none", path, "unasked")
        let none = try place.run("instance", "health", "unasked")
        #expect(none.status == 255 && none.error.contains("start it with --health-cmd"), "\(none)")
    }

    @Test(arguments: [
        (["--health-interval", "x", "--health-cmd", "true"], "--health-interval x"), (["--health-retries", "3"], "needs --health-cmd"),
        (["--health-on-failure", "cry", "--health-cmd", "true"], "choose none, restart or stop"),
        (["--health-retries", "0", "--health-cmd", "true"], "--health-retries 0"), (["--log-max-size", "1"], "--log-max-size 1"),
        (["--log-max-files", "2"], "needs --log-max-size"), (["--group", "a/b"], "--group a/b"), (["--publish", "x:1"], "--publish x:1"),
        (["--group", "a", "--netns-path", "/proc/self/ns/net"], "--group cannot be combined with --netns-path"),
    ]) func whatMakesNoSenseIsRefused(_ options: [String], _ why: String) throws {
        let place = try Place()
        let result = try place.run(["instance", "start"] + options + [Site.debian.get(), "svc"])
        #expect(result.status == 255 && result.error.contains(why), "\(result)")
    }

    // MARK: Logs

    @Test func logsAreRotatedAndNothingIsLost() throws {
        let place = try Place()
        let path = try image(
            place,
            startScript:
                "    i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); echo line $i; done; echo problem >&2; sleep 0.5; echo last; exec sleep 4324"
        )
        try place.must("instance", "start", "--log-max-size", "4k", "--log-max-files", "20", path, "svc")
        let follower = try place.start("instance", "logs", "--follow", "svc")
        #expect(follower.waitFor("last\n"))
        let expected = (1...2000).map { "line \($0)\n" }.joined() + "last\n"
        #expect(follower.printed() == expected)
        #expect(try place.must("instance", "logs", "svc") == expected)
        #expect(try place.must("instance", "logs", "--stderr", "svc") == "problem\n")
        #expect(try place.must("instance", "logs", "--tail", "2", "svc") == "line 2000\nlast\n")
        #expect(try place.must("instance", "logs", "--tail", "0", "svc") == "")
        #expect(try place.must("instance", "logs", "--tail", "1500", "svc").split(separator: "\n").count == 1500)
        #expect(try place.must("instance", "logs", "--tail", "9999", "svc") == expected)
        let listed = try place.run("instance", "list", "--logs").output.split(separator: "\n")
        let log = try #require(listed.compactMap { $0.split(separator: " ").last }.first { $0.hasSuffix("/svc.out") })
        let folder = URL(filePath: String(log)).deletingLastPathComponent().path
        let sizes = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("svc.out") }.map {
            try FileManager.default.attributesOfItem(atPath: "\(folder)/\($0)")[.size] as? Int ?? 0
        }
        #expect(sizes.count > 4 && sizes.allSatisfy { $0 <= 4096 }, "\(sizes)")
        try place.must("instance", "stop", "svc")
        #expect(follower.finish().status == 0)
        #expect(Wait.until(5) { Processes.living(named: "singularity-log", with: folder).isEmpty })
        // Few files are kept where few are wanted.
        try place.must("instance", "start", "--log-max-size", "4k", "--log-max-files", "2", path, "few")
        #expect(Wait.until(10) { (try? place.run("instance", "logs", "few").output.hasSuffix("last\n")) ?? false })
        #expect(try place.must("instance", "logs", "few").split(separator: "\n").count < 1000)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("few.out") }.count == 2)
    }

    @Test func anInstanceThatFailsWithALimitedLogSaysWhy() throws {
        let place = try Place()
        let path = try image(place, startScript: "    echo broken >&2; exit 3")
        var result = try place.run("instance", "start", "--log-max-size", "4k", path, "bad")
        // On a busy machine the script may not have got far enough when it is looked at.
        for _ in 0..<5 where result.status == 0 {
            #expect(Wait.until(5) { (try? place.run("instance", "list").output.split(separator: "\n").count) == 1 })
            result = try place.run("instance", "start", "--log-max-size", "4k", path, "bad")
        }
        #expect(result.status == 255 && result.error.contains("broken"), "\(result)")
    }

    // MARK: Groups

    /// A server that answers each connection with a line; Perl's own modules are all that the image has.
    private static func server(_ line: String) -> String {
        "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die; while ($c = $s->accept) { print $c qq(\(line)\\n); close $c }'"
    }

    private static func ask(_ host: String) -> [String] {
        [
            "perl", "-MIO::Socket::INET", "-e",
            "$s = IO::Socket::INET->new(PeerAddr => q(\(host)), PeerPort => 80, Timeout => 5) or die $@; print <$s>",
        ]
    }

    @Test(.enabled(if: mayTun, "needs /dev/net/tun"), arguments: Site.isRoot ? [Run.Identity.ordinaryUser, .caller] : [.caller])
    func containersOfAGroupReachEachOtherByName(_ identity: Run.Identity) throws {
        let place = try Place(as: identity)
        let group = "g\(UInt32.random(in: 0 ... .max))"
        let path = try image(place, startScript: "    \(Self.server("from a service"))")
        for name in ["db", "web"] {
            let fake = name == "web" ? ["--fakeroot"] : []
            try place.must(["instance", "start", "--group", group] + fake + [path, name])
        }
        func asked(_ host: String, _ words: [String]) -> Bool {
            Wait.until(10) { (try? place.run(["exec"] + words + Self.ask(host)).output) == "from a service\n" }
        }
        #expect(asked("web", ["instance://db"]))
        #expect(asked("db", ["instance://web"]))
        #expect(asked("db", ["--group", group, path]))
        #expect(try place.must("exec", "instance://db", "hostname") == "db\n")
        // Who is not in the group reaches nothing of it, and who is in it nothing of the host.
        let addresses = try place.must("instance", "list").split(separator: "\n").dropFirst().map { String($0.split(separator: " ")[2]) }
        #expect(addresses.count == 2 && addresses.allSatisfy { $0.hasPrefix("100.127.") })
        #expect(try place.run(["exec", "--group", group + "x", path] + Self.ask(addresses[0])).status != 0)
        #expect(try place.run(["exec", "--net", "--network", "none", path] + Self.ask(addresses[0])).status != 0)
        let interfaces = try place.must("exec", "--group", group, path, "ls", "/sys/class/net").split(separator: "\n")
        #expect(Set(interfaces) == ["lo", "group0"])
        // A name goes with its container, and comes with it.
        try place.must("instance", "stop", "--force", "web")
        #expect(Wait.until(5) { (try? place.run("exec", "instance://db", "getent", "hosts", "web").status) == 2 })
        try place.must("instance", "start", "--group", group, path, "web")
        #expect(asked("web", ["instance://db"]))
        // Nothing is left when the last one has gone.
        try place.must("instance", "stop", "--all", "--force")
        #expect(Wait.until(5) { Processes.living(named: "singularity-net", with: group).isEmpty })
    }

    @Test(.enabled(if: mayTun && Site.isRoot, "needs /dev/net/tun and root")) func aGroupCarriesMegabytesBothWays() throws {
        let place = try Place()
        let group = "g\(UInt32.random(in: 0 ... .max))"
        let echo =
            "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 80, Listen => 5) or die; $c = $s->accept; while (sysread($c, $b, 65536)) { print $c $b }'"
        let path = try image(place, startScript: "    \(echo)")
        try place.must("instance", "start", "--group", group, path, "echo")
        let client =
            "$s = IO::Socket::INET->new(PeerAddr => q(echo), PeerPort => 80) or die $@; if (fork) { while (sysread($s, $b, 65536)) { $d->add($b); $n += length $b } print $n, q( ), $d->hexdigest, qq(\\n) } else { $x = join(q(), map { chr($_ * 7 % 256) } 0..4095); for (1..8192) { print $s $x } shutdown $s, 1 }"
        let result = try place.run(
            "exec", "--group", group, path, "perl", "-MIO::Socket::INET", "-MDigest::SHA", "-e", "$d = Digest::SHA->new(256); " + client)
        let block = (0..<4096).map { UInt8($0 * 7 % 256) }
        let file = try place.scratch.write("expected", (0..<8192).flatMap { _ in block })
        let digest = try Run.program("/usr/bin/sha256sum", [file]).output.prefix(64)
        #expect(result.output == "33554432 \(digest)\n", "\(result)")
    }

    /// The one process that all of the group need is killed: they live on, and a new one serves those that come.
    @Test(.enabled(if: mayTun, "needs /dev/net/tun")) func aGroupIsServedAgainWhenItsSwitchWasKilled() throws {
        let place = try Place()
        let group = "g\(UInt32.random(in: 0 ... .max))"
        let path = try image(place, startScript: "    \(Self.server("again"))")
        try place.must("instance", "start", "--group", group, path, "old")
        let found = Processes.living(named: "singularity-net", with: group)
        #expect(found.count == 1)
        for process in found { kill(process, SIGKILL) }
        #expect(try place.run("exec", "instance://old", "true").status == 0)
        try place.must("instance", "start", "--group", group, path, "new")
        #expect(Wait.until(10) { (try? place.run(["exec", "--group", group, path] + Self.ask("new")).output) == "again\n" })
    }

    @Test(.enabled(if: mayTun && NetworkTests.has("/usr/bin/slirp4netns"), "needs slirp4netns and /dev/net/tun"))
    func aPortIsPublishedOnOneAddress()
        throws
    {
        let place = try Place()
        let port = Int.random(in: 21000...29000)
        let path = try image(place, startScript: "    \(Self.server("published"))")
        try place.must("instance", "start", "--publish", "127.0.0.1:\(port):80", path, "web")
        func answer(_ address: String) -> String? {
            let ask = "import socket; s = socket.create_connection(('\(address)', \(port)), 2); print(s.recv(100).decode(), end='')"
            return try? Run.program("/usr/bin/python3", ["-c", ask]).output
        }
        #expect(Wait.until(10) { answer("127.0.0.1") == "published\n" })
        #expect(answer("127.0.0.2") != "published\n")
    }
}
