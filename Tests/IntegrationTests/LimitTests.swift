import Foundation
import Testing

/// Limits on what a container takes of the machine.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct LimitTests {
    /// Whether root can set limits here: a container engine often mounts control groups read-only.
    private static let rootMayLimit: Bool = {
        guard Site.isRoot, let result = try? Run.singularity("exec", "--pids-limit", "100", Site.debian.get(), "true") else { return false }
        if result.status != 0 { FileHandle.standardError.write(Data("SKIPPED: limits (\(result.error))\n".utf8)) }
        return result.status == 0
    }()

    private func sh(_ options: [String], _ script: String, as identity: Run.Identity = .caller) throws -> Run {
        try Run.program(Site.program, ["exec"] + options + [Site.debian.get(), "sh", "-c", script], as: identity)
    }

    @Test(.enabled(if: rootMayLimit, "needs root and writable control groups")) func memoryIsLimited() throws {
        let script = "exec python3 -c 'x = bytearray(300 << 20); print(len(x))'"
        #expect(try sh([], script).output == "\(300 << 20)\n")
        let limited = try sh(["--memory", "100m", "--memory-swap", "100m"], script)
        let withoutSwap = try sh(["--memory", "100m"], script)
        // Where the kernel doesn't count swap, the first is refused and says so.
        #expect(limited.status == 137 || limited.error.contains("--memory-swap"), "\(limited)")
        #expect(withoutSwap.status == 137, "\(withoutSwap)")
    }

    @Test(.enabled(if: rootMayLimit, "needs root and writable control groups")) func processesAreLimitedAndTheGroupGoesAway() throws {
        let live = try Run.start(
            Site.program,
            ["exec", "--pids-limit", "8", Site.debian.get(), "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5 & done; wait"])
        let name = "singularity-\(live.identifier)"
        let result = live.finish()
        #expect(result.error.contains("Cannot fork"), "\(result)")
        func groups() throws -> String { try Run.program("/usr/bin/find", ["/sys/fs/cgroup", "-name", name]).output }
        #expect(Wait.until(5) { (try? groups()) == "" })
    }

    @Test(.enabled(if: rootMayLimit, "needs root and writable control groups")) func aFileSetsLimits() throws {
        let scratch = try Scratch()
        let path = try scratch.write("limits.toml", Array("[pids]\nlimit = 33\n[memory]\nlimit = 104857600\n".utf8))
        let script =
            "group=$(grep -E ':pids:|^0::.*singularity' /proc/self/cgroup | head -1 | cut -d: -f3); cat /sys/fs/cgroup/pids$group/pids.max /sys/fs/cgroup$group/pids.max 2>/dev/null"
        #expect(try sh(["--apply-cgroups", path], script).output == "33\n")
        #expect(try sh(["--apply-cgroups", path, "--memory", "1g"], "true").error.contains("cannot be combined"))
        try scratch.write("limits.toml", Array("[memory]\nlimt = 1\n".utf8))
        #expect(try sh(["--apply-cgroups", path], "true").error.contains("memory.limt is not supported"))
        try scratch.write("limits.toml", Array("[memory\n".utf8))
        #expect(try sh(["--apply-cgroups", path], "true").status == 255)
    }

    @Test(.enabled(if: rootMayLimit, "needs root and writable control groups")) func anInstanceIsLimitedAsAWhole() throws {
        let scratch = try Scratch()
        let environment = ["SINGULARITY_CONFIGDIR": scratch.path]
        let image = try Site.debian.get()
        #expect(try Run.singularity("instance", "start", "--memory", "100m", image, "lim", environment: environment).status == 0)
        defer { _ = try? Run.singularity("instance", "stop", "lim", environment: environment) }
        #expect(try Run.singularity("instance", "stats", "--no-stream", "lim", environment: environment).output.contains("/ 100MiB"))
        let script = "x = bytearray(300 << 20); print(len(x))"
        #expect(try Run.singularity("exec", "instance://lim", "python3", "-c", script, environment: environment).status == 137)
    }

    @Test(arguments: [
        (["--memory", "xx"], "invalid memory value"), (["--cpus", "1000"], "cpus value must be in range 0.01 - "),
        (["--cpus", "x"], "cpus value must be in range"), (["--blkio-weight", "5"], "give 10 to 1000"),
        (["--pids-limit", "x"], "--pids-limit x"),
        (["--cpu-shares", "1"], "--cpu-shares 1"), (["--apply-cgroups", "/no/such"], "--apply-cgroups /no/such"),
    ]) func valuesAreChecked(_ options: [String], _ text: String) throws {
        let result = try sh(options, "true", as: .ordinaryUser)
        #expect(result.status == 255 && result.error.contains(text), "\(result)")
    }

    /// A limit that cannot be had is an error that says what is missing, never a program without it.
    @Test(.enabled(if: Site.isRoot, "needs another account")) func anOrdinaryUserIsToldWhatIsMissing() throws {
        let result = try sh(["--memory", "100m"], "echo ran", as: .ordinaryUser)
        #expect(
            result.status == 0 || result.status == 255 && result.error.contains("limits cannot be set") && result.output.isEmpty,
            "\(result)")
    }
}
