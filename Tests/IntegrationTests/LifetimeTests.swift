import Foundation
import Testing

/// The image server: there as long as any process of the container, and no longer, however the container ends.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"), .serialized)
struct LifetimeTests {
    /// A copy of the Debian image, so that this suite's servers are not those of other tests.
    private static let image: Result<String, any Error> = Result {
        let path = Site.folder + "/lifetime.sif"
        try FileManager.default.copyItem(atPath: Site.debian.get(), toPath: path)
        return path
    }

    private func start(_ options: [String], _ script: String) throws -> Run.Live {
        try Run.start(Site.program, ["exec"] + options + [Self.image.get(), "sh", "-c", script], as: .ordinaryUser)
    }

    /// Image servers of this suite's containers: processes of the name whose command line has the image's.
    private func servers() -> [pid_t] { Processes.living(named: "singularity-fs", with: "lifetime.sif") }

    private func expectNothingLeft(sourceLocation: SourceLocation = #_sourceLocation) {
        // Three seconds for the next container, and what a busy machine needs.
        #expect(Wait.until(8) { servers().isEmpty }, "\(servers())", sourceLocation: sourceLocation)
    }

    @Test(arguments: [[], ["--pid"], ["--containall"]]) func killingTheFrontProcessEndsEverything(_ options: [String]) throws {
        // Without a PID namespace a background process is on its own, as it would be without a container.
        let live = try start(options, options.isEmpty ? "echo ready; exec sleep 4321" : "echo ready; sleep 4321 & sleep 4321")
        #expect(live.waitFor("ready"))
        kill(live.identifier, SIGKILL)
        #expect(live.finish().status == 137)
        expectNothingLeft()
    }

    @Test(arguments: [[], ["--pid"]], [SIGTERM, SIGINT, SIGHUP, SIGUSR1]) func signalsReachTheProgram(_ options: [String], _ signal: Int32)
        throws
    {
        let live = try start(options, "trap 'echo got; exit 9' TERM INT HUP USR1; echo ready; while :; do sleep 0.05; done")
        #expect(live.waitFor("ready"))
        kill(live.identifier, signal)
        let result = live.finish()
        #expect(result.status == 9 && result.output.hasSuffix("got\n"), "\(result)")
        expectNothingLeft()
    }

    @Test func aProgramInTheBackgroundKeepsItsFiles() throws {
        let scratch = try Scratch()
        let live = try Run.start(
            Site.program,
            [
                "exec", "-B", scratch.path, Self.image.get(), "sh", "-c",
                "(sleep 1; cat /usr/bin/perl | wc -c > \(scratch.path)/size) >/dev/null 2>&1 </dev/null & exit 3",
            ],
            as: .ordinaryUser)
        #expect(live.finish().status == 3)
        #expect(Wait.until(10) { ((try? String(contentsOfFile: scratch.file("size"), encoding: .utf8)) ?? "").count > 5 })
        expectNothingLeft()
    }

    @Test func theImageMayBeDeletedWhileItRuns() throws {
        let scratch = try Scratch()
        try FileManager.default.copyItem(atPath: Self.image.get(), toPath: scratch.file("copy-lifetime.sif"))
        let live = try Run.start(
            Site.program, ["exec", scratch.file("copy-lifetime.sif"), "sh", "-c", "echo ready; read line; cat /usr/bin/perl | wc -c"],
            as: .ordinaryUser)
        #expect(live.waitFor("ready"))
        try FileManager.default.removeItem(atPath: scratch.file("copy-lifetime.sif"))
        live.input.fileHandleForWriting.write(Data("go\n".utf8))
        let result = live.finish()
        #expect(result.status == 0 && (result.output.split(separator: "\n").last.flatMap { Int($0) } ?? 0) > 1_000_000, "\(result)")
    }

    @Test func aServerThatIsKilledIsAnErrorNotAHang() throws {
        // Something of all that is in the kernel's cache of no container before.
        let live = try start(
            ["--private-mount"], "echo ready; read line; cat /usr/bin/* /usr/lib/*/*.so* > /dev/null && echo read || echo failed")
        #expect(live.waitFor("ready"))
        for pid in servers() { kill(pid, SIGKILL) }
        live.input.fileHandleForWriting.write(Data("go\n".utf8))
        let result = live.finish(timeout: 10)
        // The shell may even fail to read itself, and die of a bus error.
        #expect(result.status != -1 && !result.output.contains("read\n"), "\(result)")
        expectNothingLeft()
    }

    @Test func aStoppedServerGoesOn() throws {
        let live = try start([], "echo ready; read line; cat /usr/bin/perl | wc -c")
        #expect(live.waitFor("ready"))
        for pid in servers() { kill(pid, SIGSTOP) }
        live.input.fileHandleForWriting.write(Data("go\n".utf8))
        usleep(300_000)
        for pid in servers() { kill(pid, SIGCONT) }
        #expect(live.finish().status == 0)
        expectNothingLeft()
    }

    /// A batch system that suspends a job stops all its processes.
    @Test(arguments: [[], ["--pid"], ["--private-mount"]], [SIGCONT, SIGKILL])
    func aSuspendedJobGoesOnOrEnds(_ options: [String], _ signal: Int32) throws {
        let live = try start(options, "echo ready; sleep 0.2; cat /usr/bin/perl | wc -c; exit 7")
        #expect(live.waitFor("ready"))
        let all = servers() + Self.descendants(live.identifier)
        for pid in all { kill(pid, SIGSTOP) }
        usleep(1_000_000)
        for pid in all.reversed() { kill(pid, signal) }
        #expect(live.finish(timeout: 10).status == (signal == SIGCONT ? 7 : 137))
        expectNothingLeft()
    }

    /// A process and all that come of it.
    private static func descendants(_ pid: pid_t) -> [pid_t] {
        let children = (try? String(contentsOfFile: "/proc/\(pid)/task/\(pid)/children", encoding: .utf8)) ?? ""
        return [pid] + children.split(separator: " ").compactMap { pid_t($0) }.flatMap(descendants)
    }

    @Test(.enabled(if: SmallGroup.isPossible, "needs root and writable control groups"), arguments: [[], ["--pid"], ["--private-mount"]])
    func aJobThatTakesTooMuchMemoryIsKilledAlone(_ options: [String]) throws {
        let group = try #require(SmallGroup())
        defer { group.remove() }
        let image = try Self.image.get()
        func run(_ script: String) throws -> Run { try group.run(["exec"] + options + [image, "sh", "-c", script]) }
        // The program of the container is what the kernel kills, and the container ends as it would without one.
        let alone = try run("exec python3 -c 'x = bytearray(1 << 30); print(len(x))'")
        #expect(alone.status == 137 && alone.output == "", "\(alone)")
        expectNothingLeft()
        // A script whose child is killed goes on, and has its files.
        let script = try run("python3 -c 'x = bytearray(1 << 30)'; echo $?; cat /usr/bin/perl | wc -c")
        #expect(script.status == 0 && script.output.hasPrefix("137\n") && script.output.split(separator: "\n").count == 2, "\(script)")
        expectNothingLeft()
    }

    @Test func closingAllDescriptorsDoesNoHarm() throws {
        let result = try Run.singularity(
            "exec", Self.image.get(), "python3", "-c", "import os; os.closerange(3, 4096); print(len(os.listdir('/usr/bin')) > 100)",
            as: .ordinaryUser)
        #expect(result.output == "True\n", "\(result)")
    }

    /// Who reads hostile bytes can do little else: start programs, open sockets, write files, signal.
    @Test func theServerIsConfined() throws {
        let live = try start(["--private-mount"], "echo ready; read line; exit 0")
        #expect(live.waitFor("ready"))
        let pids = servers()
        // That of another test may be about to leave.
        #expect(!pids.isEmpty)
        for pid in pids {
            let status = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
            for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"] {
                #expect(status.contains(line + "\n"), "\(line)")
            }
        }
        try live.input.fileHandleForWriting.close()
        #expect(live.finish().status == 0)
        expectNothingLeft()
    }

    @Test func nothingOfTheLauncherIsOpenInTheProgram() throws {
        // What the test runner leaves open to its children is the caller's, and stays.
        let without = try Run.program("/bin/ls", ["/proc/self/fd"], as: .ordinaryUser)
        let within = try Run.singularity("exec", Self.image.get(), "ls", "/proc/self/fd", as: .ordinaryUser)
        #expect(within.output.split(separator: "\n").count == without.output.split(separator: "\n").count, "\(within) \(without)")
    }

    @Test func manyContainersAtOnce() throws {
        let runs = try (0..<24).map { number in try start([], "echo \(number); exit \(number)") }
        for (number, run) in runs.enumerated() {
            let result = run.finish()
            #expect(result.status == Int32(number) && result.output == "\(number)\n", "\(result)")
        }
        expectNothingLeft()
    }
}
