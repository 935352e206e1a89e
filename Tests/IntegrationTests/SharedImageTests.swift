import Foundation
import Testing

/// One mount of an image for all containers of a user and job.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"), .serialized)
struct SharedImageTests {
    /// A copy of the image under a name of its own, by which its processes are told from those of other tests.
    private final class Copy {
        let scratch: Scratch
        let path: String
        let name: String
        init(_ function: String = #function) throws {
            scratch = try Scratch(function)
            name = "shared-\(UInt32.random(in: 0 ... .max)).sif"
            path = scratch.file(name)
            try FileManager.default.copyItem(atPath: Site.debian.get(), toPath: path)
        }

        var keepers: [pid_t] { Processes.living(named: "singularity-own", with: name) }
        var servers: [pid_t] { Processes.living(named: "singularity-fs", with: name) }

        func start(
            _ script: String, _ options: [String] = [], as identity: Run.Identity = .ordinaryUser, environment: [String: String] = [:]
        ) throws -> Run.Live {
            try Run.start(Site.program, ["exec"] + options + [path, "sh", "-c", script], as: identity, environment: environment)
        }
    }

    @Test func manyStartsShareOneServerAndAUserNamespace() throws {
        let copy = try Copy()
        let runs = try (0..<32).map { _ in try copy.start("readlink /proc/self/ns/user; echo ready; read line") }
        for run in runs { #expect(run.waitFor("ready", seconds: 30)) }
        #expect(copy.keepers.count == 1 && copy.servers.count == 1)
        for run in runs { try run.input.fileHandleForWriting.close() }
        let spaces = Set(runs.map { String($0.finish().output.split(separator: "\n")[0]) })
        #expect(spaces.count == 1)
        #expect(Wait.until(6) { copy.keepers.isEmpty && copy.servers.isEmpty })
    }

    @Test(.enabled(if: Site.isRoot, "needs root")) func rootSharesAMountToo() throws {
        let copy = try Copy()
        let runs = try (0..<8).map { _ in try copy.start("head -1 /etc/os-release; echo ready; read line; exit 0", as: .caller) }
        for run in runs { #expect(run.waitFor("ready", seconds: 30)) }
        #expect(copy.keepers.count == 1)
        for run in runs { try run.input.fileHandleForWriting.close() }
        for run in runs { #expect(run.finish().status == 0) }
        #expect(Wait.until(6) { copy.keepers.isEmpty })
    }

    @Test func whatEndsSeparatelyIsNotShared() throws {
        let copy = try Copy()
        let one = try copy.start("echo ready; read line")
        let other = try copy.start("echo ready; read line", environment: ["SLURM_JOB_ID": "7"])
        let alone = try copy.start("echo ready; read line", ["--private-mount"])
        let root = try copy.start("echo ready; read line", ["--fakeroot"])
        for run in [one, other, alone, root] { #expect(run.waitFor("ready")) }
        #expect(copy.keepers.count == 3 && copy.servers.count == 4)
        for run in [one, other, alone, root] {
            try run.input.fileHandleForWriting.close()
            _ = run.finish()
        }
        #expect(Wait.until(6) { copy.servers.isEmpty })
    }

    /// Each process behind a container is killed in turn.
    @Test(arguments: ["keeper", "server", "program"]) func killingOneProcessLeavesNothing(_ which: String) throws {
        let copy = try Copy()
        let data = copy.scratch.file("data")
        let live = try copy.start(
            "i=0; while i=$((i + 1)); do echo $i >> \(data); read -t 0.01 x; done 2>/dev/null; exec sleep 4323", ["-B", copy.scratch.path])
        #expect(Wait.until(10) { ((try? String(contentsOfFile: data, encoding: .utf8)) ?? "").contains("\n") })
        let victims = which == "keeper" ? copy.keepers : which == "server" ? copy.servers : [live.identifier]
        #expect(victims.count == 1)
        for pid in victims { kill(pid, SIGKILL) }
        usleep(300_000)
        // A new container starts, whatever was killed.
        let next = try copy.start("head -1 /etc/os-release")
        #expect(next.finish().output.contains("Debian"))
        if which == "keeper" {
            // The old container has kept its files.
            #expect(live.process.isRunning)
        }
        kill(live.identifier, SIGKILL)
        _ = live.finish()
        #expect(Wait.until(8) { copy.keepers.isEmpty && copy.servers.isEmpty }, "\(copy.keepers) \(copy.servers)")
        #expect(
            try String(contentsOfFile: data, encoding: .utf8).split(separator: "\n").enumerated().allSatisfy {
                Int($0.element) == $0.offset + 1
            })
    }

    @Test func aStoppedKeeperDelaysAndDoesNotPrevent() throws {
        let copy = try Copy()
        let first = try copy.start("echo ready; read line")
        #expect(first.waitFor("ready"))
        for pid in copy.keepers { kill(pid, SIGSTOP) }
        let second = try copy.start("echo second")
        usleep(500_000)
        for pid in copy.keepers { kill(pid, SIGCONT) }
        #expect(second.finish().output == "second\n")
        try first.input.fileHandleForWriting.close()
        _ = first.finish()
        #expect(Wait.until(6) { copy.servers.isEmpty })
    }

    @Test func anImageThatIsReplacedIsMountedAnew() throws {
        let copy = try Copy()
        let old = try copy.start("echo ready; read line; cat /usr/bin/perl | wc -c")
        #expect(old.waitFor("ready"))
        let tree = try Scratch("anImageThatIsReplacedTree()")
        for name in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            try FileManager.default.createDirectory(atPath: tree.file(name), withIntermediateDirectories: true)
        }
        try FileManager.default.copyItem(atPath: "/bin/busybox", toPath: tree.file("bin/busybox"))
        symlink("busybox", tree.file("bin/sh"))
        try tree.write("new", Array("replaced\n".utf8))
        #expect(try Run.singularity("build", "--force", copy.path, tree.path).status == 0)
        chmod(copy.path, 0o644)
        let new = try Run.program(Site.program, ["exec", copy.path, "/bin/busybox", "cat", "/new"], as: .ordinaryUser)
        #expect(new.output == "replaced\n", "\(new)")
        old.input.fileHandleForWriting.write(Data("go\n".utf8))
        #expect((old.finish().output.split(separator: "\n").last.flatMap { Int($0) } ?? 0) > 1_000_000)
    }

    /// Another user has taken the place of the private directory.
    @Test(.enabled(if: Site.isRoot, "needs another account")) func anotherUsersDirectoryIsNotUsed() throws {
        let id = try Run.program("/usr/bin/id", ["-u"], as: .ordinaryUser).output.dropLast()
        let scratch = try Scratch()
        let runtime = scratch.file("run")
        mkdir(runtime, 0o777)
        chmod(runtime, 0o777)
        mkdir(runtime + "/singularity", 0o777)
        chmod(runtime + "/singularity", 0o777)
        let result = try Run.program(
            Site.program, ["exec", Site.debian.get(), "id", "-u"], as: .ordinaryUser, environment: ["XDG_RUNTIME_DIR": runtime])
        #expect(result.output == "\(id)\n", "\(result)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: runtime + "/singularity").isEmpty)
    }
}
