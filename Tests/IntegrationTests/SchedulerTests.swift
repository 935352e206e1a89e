import Foundation
import Testing

/// A scheduler's commands in containers: they run on the host. With a real Slurm.
@Suite(
    .enabled(if: Site.isPrepared && Site.mayFUSE && Site.isRoot && !Site.slurm.isEmpty, "needs root, Slurm and munge"), .serialized)
final class SchedulerTests {
    /// A distribution as foreign as can be: it has no C library.
    private static let foreign: Result<String, any Error> = Result {
        let folder = Site.folder + "/foreign"
        for name in ["bin", "etc", "tmp", "dev", "proc", "sys", "usr/bin"] {
            try FileManager.default.createDirectory(atPath: "\(folder)/root/\(name)", withIntermediateDirectories: true)
        }
        try FileManager.default.copyItem(atPath: "/bin/busybox", toPath: folder + "/root/bin/busybox")
        for name in ["sh", "cat", "sleep", "echo", "grep"] { symlink("busybox", "\(folder)/root/bin/\(name)") }
        let built = try Run.singularity("build", folder + "/foreign.sif", folder + "/root")
        try #require(built.status == 0, "\(built)")
        chmod(folder + "/foreign.sif", 0o644)
        return folder + "/foreign.sif"
    }

    private var environment: [String: String] { ["SLURM_CONF": Site.slurm] }

    private func run(_ words: [String], input: String? = nil, _ more: [String: String] = [:], in folder: String = Site.folder) throws -> Run
    {
        try Run.program(
            Site.program, words, as: .ordinaryUser, environment: environment.merging(more) { $1 }, input: input, in: folder, timeout: 60)
    }

    private func start(_ words: [String]) throws -> Run.Live {
        try Run.start(Site.program, words, as: .ordinaryUser, environment: environment, in: Site.folder)
    }

    /// The server's files, wherever the account may have them.
    private var files: [String] {
        let uid = (try? Run.program("/usr/bin/id", ["-u", Site.user]).output.dropLast()).map(String.init) ?? ""
        return ["/tmp/.singularity-\(uid)", "/run/user/\(uid)/singularity"].flatMap {
            ((try? FileManager.default.contentsOfDirectory(atPath: $0)) ?? []).filter { $0.hasPrefix("host-") }
        }
    }

    @Test func commandsOfTheHostWorkInAForeignDistribution() throws {
        for image in [try Self.foreign.get(), try Site.debian.get()] {
            let seen = try run([
                "exec", "--scheduler", image, "sh", "-c", "sinfo -h -o %P; srun -n2 echo ran; srun -n1 sh -c 'exit 7'; echo $?",
            ])
            #expect(seen.output == "all*\nran\nran\n7\n", "\(seen)")
            // Standard input, arguments with anything in them, variables of the scheduler, and the directory.
            let line = "printf '#!/bin/sh\\necho in $PWD: \"$1\"\\n' | SBATCH_JOB_NAME='a b' sbatch --wait -o /dev/null; echo $?"
            #expect(try run(["exec", "--scheduler", image, "sh", "-c", line]).output.hasSuffix("\n0\n"))
            let words = try run(["exec", "--scheduler", image, "srun", "-n1", "printf", "%s|", "a b", "", "$x\n"])
            #expect(words.output == "a b||$x\\n|" || words.output == "a b||$x\n|", "\(words)")
            let piped = try run(["exec", "--scheduler", image, "srun", "-n1", "cat"], input: "through\n")
            #expect(piped.output == "through\n", "\(piped)")
        }
        let folder = try Scratch()
        #expect(try run(["exec", "--scheduler", Self.foreign.get(), "srun", "-n1", "pwd"], in: folder.path).output == folder.path + "\n")
        #expect(Wait.until(5) { files.isEmpty }, "\(files)")
    }

    @Test func itIsThereOnlyWhereItIsWanted() throws {
        let image = try Self.foreign.get()
        #expect(try run(["exec", image, "squeue"]).status == 255)
        let without = try run(["exec", "--scheduler", image, "true"], ["PATH": "/nowhere"])
        #expect(without.error.contains("--scheduler: no command of a scheduler is in PATH"), "\(without)")
        let scratch = try Scratch()
        let file = try scratch.write("singularity.conf", Array("allow scheduler = no\n".utf8))
        let refused = try run(["--config", file, "exec", "--scheduler", image, "squeue"])
        #expect(refused.status == 255 && refused.error.contains("allow scheduler = no"), "\(refused)")
        // Nothing but the scheduler's own commands can be run.
        let other = try run([
            "exec", "--scheduler", image, "sh", "-c",
            "cd /.singularity.d/host; ./loader --library-path . ./singularity host-run touch \(scratch.path)/made; echo $?; ./loader --library-path . ./singularity host-run ../bin/touch x; echo $?",
        ])
        #expect(other.output == "127\n127\n" && !scratch.names.contains("made"), "\(other)")
    }

    @Test func signalsReachTheCommand() throws {
        let live = try start([
            "exec", "--scheduler", try Self.foreign.get(), "srun", "-n1", "sh", "-c",
            "trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.1; done",
        ])
        #expect(live.waitFor("ready", seconds: 20))
        // The command itself gets it, as it would without a container.
        kill(live.identifier, SIGUSR1)
        let result = live.finish(timeout: 20)
        #expect(result.status == 9 && result.output == "ready\ncaught\n", "\(result)")
        #expect(Wait.until(5) { files.isEmpty }, "\(files)")
    }

    @Test func nothingIsLeftWhenTheContainerIsKilled() throws {
        let live = try start(["exec", "--scheduler", try Self.foreign.get(), "srun", "-n1", "sh", "-c", "echo ready; exec sleep 4325"])
        #expect(live.waitFor("ready", seconds: 20))
        kill(live.identifier, SIGKILL)
        _ = live.finish()
        #expect(Wait.until(15) { (try? Run.program("/usr/bin/pgrep", ["-f", "sleep 4325"]).output.isEmpty) ?? false })
        #expect(Wait.until(15) { files.isEmpty && Processes.living(named: "singularity-run", with: "").isEmpty }, "\(files)")
        #expect(Wait.until(10) { (try? run(["exec", "--scheduler", Self.foreign.get(), "squeue", "-h"]).output.isEmpty) ?? false })
    }

    @Test func instancesHaveItToo() throws {
        let place = try Place()
        let started = try place.run(
            ["instance", "start", "--scheduler", Self.foreign.get(), "head"], environment: environment)
        try #require(started.status == 0, "\(started)")
        #expect(try place.must("exec", "instance://head", "sinfo", "-h", "-o", "%P") == "all*\n")
        try place.must("instance", "stop", "head")
        #expect(Wait.until(5) { files.isEmpty }, "\(files)")
    }
}
