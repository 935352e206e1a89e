import Foundation
import Testing

/// Programs in containers, as an ordinary user and as root.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct RunningTests {
    private func exec(_ arguments: [String], _ command: [String], environment: [String: String] = [:], input: String? = nil) throws -> Run {
        try Run.program(
            Site.program, ["exec"] + arguments + [Site.debian.get()] + command, as: .ordinaryUser, environment: environment, input: input)
    }

    @Test func aCommandPrintsWhatItPrints() throws {
        let result = try exec([], ["cat", "/etc/os-release"])
        #expect(result.output.contains("Debian GNU/Linux"), "\(result)")
        #expect(result.error.isEmpty)
    }

    @Test(arguments: [0, 1, 7, 255]) func theExitStatusIsTheProgramsOwn(_ status: Int) throws {
        #expect(try exec([], ["sh", "-c", "exit \(status)"]).status == Int32(status))
        #expect(try exec(["--pid"], ["sh", "-c", "exit \(status)"]).status == Int32(status))
    }

    @Test func aSignalThatEndsTheProgramShows() throws {
        #expect(try exec([], ["sh", "-c", "kill -KILL $$"]).status == 137)
        #expect(try exec(["--pid"], ["sh", "-c", "kill -TERM $$"]).status == 143)
    }

    @Test func standardInputReachesTheProgram() throws {
        #expect(try exec([], ["cat"], input: "through a pipe\n").output == "through a pipe\n")
    }

    @Test func aMissingCommandIsNamedAndGives255() throws {
        let result = try exec([], ["no-such-command"])
        #expect(result.status == 255)
        #expect(result.error.contains("\"no-such-command\": executable file not found in $PATH"))
    }

    @Test func aFileWithoutExecutePermissionGives255() throws {
        let result = try exec([], ["/etc/passwd"])
        #expect(result.status == 255)
        #expect(result.error.contains("Permission denied"))
    }

    @Test func theImageCannotBeWritten() throws {
        #expect(try exec([], ["sh", "-c", "echo x > /usr/x"]).error.contains("Read-only file system"))
    }

    @Test func writableTmpfsTakesWritesAndForgetsThem() throws {
        #expect(try exec(["--writable-tmpfs"], ["sh", "-c", "echo x > /usr/x && rm /usr/bin/perl && cat /usr/x"]).output == "x\n")
        #expect(try exec([], ["ls", "/usr/bin/perl"]).status == 0)
    }

    @Test func theCallerIsHimself() throws {
        let ids = try exec(
            [], ["sh", "-c", "id -un; id -u; echo $HOME; grep -c NoNewPrivs:.1 /proc/self/status; grep CapEff /proc/self/status"]
        ).output
        let expected = try Run.program("/usr/bin/id", ["-u"], as: .ordinaryUser).output
        let lines = ids.split(separator: "\n").map(String.init)
        #expect(lines[1] + "\n" == expected)
        if !Site.isRoot || !Site.user.isEmpty {
            #expect(lines[3] == "1")
            #expect(lines[4].hasSuffix("0000000000000000"))
        }
    }

    @Test func variablesOfTheHostPassUnlessTheEnvironmentIsClean() throws {
        let set = ["MY_VARIABLE": "from host", "SINGULARITYENV_INJECTED": "yes"]
        #expect(try exec([], ["printenv", "MY_VARIABLE", "INJECTED"], environment: set).output == "from host\nyes\n")
        #expect(try exec(["--cleanenv"], ["printenv", "INJECTED", "MY_VARIABLE"], environment: set).output == "yes\n")
        #expect(try exec(["--env", "A=1,2"], ["printenv", "A"]).output == "1,2\n")
        // What the image sets wins over the host.
        #expect(try exec([], ["printenv", "LC_ALL"], environment: ["LC_ALL": "xx"]).output == "C.UTF-8\n")
    }

    @Test func bindsShowHostPathsAlsoWhereTheImageHasNone() throws {
        let scratch = try Scratch()
        try scratch.write("file", Array("bound\n".utf8))
        #expect(try exec(["-B", "\(scratch.path):/not/in/the/image"], ["cat", "/not/in/the/image/file"]).output == "bound\n")
        let readOnly = try exec(["-B", "\(scratch.path):/mnt:ro"], ["sh", "-c", "echo x > /mnt/new"])
        #expect(readOnly.error.contains("Read-only file system"))
        #expect(try exec(["-B", "\(scratch.file("file")):/etc/motd2"], ["cat", "/etc/motd2"]).output == "bound\n")
        let missing = try exec(["-B", "/no/such/path"], ["true"])
        #expect(missing.status == 255)
        #expect(missing.error.contains("/no/such/path"))
    }

    @Test func containHidesTheHost() throws {
        let scratch = try Scratch()
        try scratch.write("visible", [])
        #expect(try exec(["--contain"], ["ls", scratch.path]).status != 0)
        let folders = try exec(["--contain"], ["sh", "-c", "ls -A /tmp /var/tmp ~ | grep -v -e : -e '^$' | wc -l"]).output
        #expect(folders == "0\n")
        let devices = try exec(["--contain"], ["ls", "/dev"]).output.split(separator: "\n").filter { $0 != "console" }
        #expect(devices == ["fd", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"])
        #expect(try exec(["--containall"], ["sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'"]).output.split(separator: "\n").count == 2)
        let processes = try exec(["--containall"], ["sh", "-c", "ls -d /proc/[0-9]* | wc -l"]).output
        #expect(Int(processes.trimmingCharacters(in: .whitespacesAndNewlines)).map { $0 <= 4 } == true)
    }

    @Test func theWorkingDirectoryIsTheCallersWhereItCanBe() throws {
        let scratch = try Scratch()
        let result = try Run.program(Site.program, ["exec", Site.debian.get(), "pwd"], as: .ordinaryUser, in: scratch.path)
        #expect(result.output == scratch.path + "\n")
        #expect(try exec(["--pwd", "/usr/lib"], ["pwd"]).output == "/usr/lib\n")
        let missing = try exec(["--pwd", "/nowhere"], ["pwd"])
        #expect(missing.status == 255 && missing.error.contains("/nowhere"))
    }

    @Test func aLoginShellReadsTheStartUpFiles() throws {
        let place = try Place()
        try place.scratch.write(".profile", Array("SAID=profile\n".utf8))
        func shell(_ options: [String]) throws -> String {
            try Run.program(
                Site.program, ["shell", "--home", "\(place.scratch.path):/home/me"] + options + [Site.debian.get()], as: .ordinaryUser,
                input: "echo $SAID $0 $SHELL $SINGULARITY_NAME\n"
            ).output
        }
        #expect(try shell([]) == "/bin/bash /bin/bash debian.sif\n")
        #expect(try shell(["--login", "--shell", "/bin/bash"]) == "profile /bin/bash /bin/bash debian.sif\n")
        // The account's own shell, as useradd has made it.
        let own =
            try Run.program("/usr/bin/getent", ["passwd", Site.isRoot ? Site.user : NSUserName()]).output.split(separator: ":").last ?? ""
        let path = own.dropLast()
        #expect(try shell(["--login"]) == "profile \(path) \(path) debian.sif\n")
    }

    @Test func runStartsTheCommandOfTheImageAndShellAShell() throws {
        let image = try Site.debian.get()
        let run = try Run.program(Site.program, ["run", image], as: .ordinaryUser, input: "echo from $0\n")
        #expect(run.output == "from bash\n", "\(run)")
        let arguments = try Run.program(Site.program, ["run", image, "echo", "two words", "$HOME"], as: .ordinaryUser)
        #expect(arguments.output.hasPrefix("two words /"), "\(arguments)")
        #expect(
            try Run.program(Site.program, ["shell", image], as: .ordinaryUser, input: "echo $SINGULARITY_COMMAND\n").output == "shell\n")
        #expect(try Run.program(Site.program, ["test", image], as: .ordinaryUser).status == 0)
    }

    @Test func aLauncherLineMakesTheImageAProgram() throws {
        let scratch = try Scratch()
        symlink(Site.program, scratch.file("run-singularity"))
        let result = try Run.program(
            Site.debian.get(), ["echo", "started"], as: .ordinaryUser, environment: ["PATH": scratch.path + ":/usr/bin:/bin"])
        #expect(result.output == "started\n", "\(result)")
    }

    @Test func privateNetworkHasLoopbackOnly() throws {
        let result = try exec(["--net", "--network", "none"], ["sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1"])
        #expect(result.output.trimmingCharacters(in: .whitespacesAndNewlines) == "lo", "\(result)")
    }

    @Test func pythonRunsWithItsModules() throws {
        let result = try exec([], ["python3", "-c", "import os, sys; print(os.popen('uname').read().strip(), sys.version_info >= (3,))"])
        #expect(result.output == "Linux True\n", "\(result)")
    }

    /// What surrounds a place that is touched comes into the page cache unasked, while others read the same.
    @Test(arguments: ["128K", "1M"]) func aMappedFileIsWhatItWas(_ blockSize: String) throws {
        let scratch = try Scratch("aMappedFile-\(blockSize)")
        try FileManager.default.createDirectory(atPath: scratch.file("data"), withIntermediateDirectories: true)
        var bytes = [UInt8]()
        var generator = SystemRandomNumberGenerator()
        for part in 0..<160 {
            switch part % 5 {
            case 0: bytes += [UInt8](repeating: 0, count: 300_000)
            case 1: bytes += (0..<25_000).flatMap { _ in withUnsafeBytes(of: generator.next()) { Array($0) } }
            default: bytes += (0..<200_000).map { UInt8(truncatingIfNeeded: $0 / (part + 1)) }
            }
        }
        try scratch.write("data/large", bytes)
        let made = try Run.singularity("build", "--block-size", blockSize, scratch.file("a.sqfs"), scratch.file("data"))
        try #require(made.status == 0, "\(made)")
        chmod(scratch.file("a.sqfs"), 0o644)
        let script = """
            import hashlib, mmap, os, random
            for number in range(3):
                if os.fork() == 0:
                    break
            with open("/data/large", "rb") as file:
                view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                for _ in range(200):
                    view[random.randrange(len(view))]
                print(hashlib.sha256(view).hexdigest(), flush=True)
            try:
                while True: os.wait()
            except ChildProcessError:
                pass
            """
        let options = ["--private-mount", "--bind", "\(scratch.file("a.sqfs")):/data:image-src=/"]
        // The image has no module for it.
        let host = ["--bind", "/usr"]
        let result = try exec(options + host, ["python3", "-c", script])
        let sum = try Run.program("/usr/bin/sha256sum", [scratch.file("data/large")]).output.prefix { $0 != " " }
        #expect(Set(result.output.split(separator: "\n")) == [sum], "\(result)")
    }

    @Test func aTreeOfFilesRunsTooAndCanBeWritten() throws {
        let scratch = try Scratch()
        let unpack = try Run.program(
            "/usr/bin/unsquashfs", ["-q", "-n", "-o", "36864", "-d", scratch.file("box"), Site.debian.get()], as: .ordinaryUser)
        #expect(FileManager.default.fileExists(atPath: scratch.file("box/bin/sh")), "\(unpack)")
        let read = try Run.singularity("exec", scratch.file("box"), "sh", "-c", "echo x > /usr/x", as: .ordinaryUser)
        #expect(read.error.contains("Read-only file system"), "\(read)")
        let write = try Run.singularity("exec", "--writable", scratch.file("box"), "sh", "-c", "echo kept > /usr/x", as: .ordinaryUser)
        #expect(write.status == 0, "\(write)")
        #expect(try String(contentsOfFile: scratch.file("box/usr/x"), encoding: .utf8) == "kept\n")
    }

    @Test func withoutFUSEAnUnpackedCopyRuns() throws {
        let scratch = try Scratch()
        let cache = ["SINGULARITY_CACHEDIR": scratch.file("cache")]
        for _ in 0..<2 {
            let result = try exec(["--unsquash"], ["sh", "-c", "cat /etc/debian_version && ls -l /bin/sh"], environment: cache)
            #expect(result.status == 0, "\(result)")
        }
        let clean = try Run.singularity("cache", "clean", "--force", as: .ordinaryUser, environment: cache)
        #expect(clean.status == 0, "\(clean)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.file("cache/cache/rootfs")) == [])
    }

    @Test(.enabled(if: Site.isRoot, "needs root")) func rootRunsOnAKernelMount() throws {
        let result = try Run.singularity("exec", Site.debian.get(), "sh", "-c", "id -u; grep CapEff /proc/self/status; touch /usr/x")
        #expect(result.output.hasPrefix("0\n"))
        #expect(result.error.contains("Read-only file system"))
        #expect(
            Wait.until(5) { !((try? String(contentsOfFile: "/proc/mounts", encoding: .utf8)) ?? "").contains(Site.folder + "/debian.sif") })
    }

    @Test func anAddressRunsThroughTheCache() throws {
        let scratch = try Scratch()
        let cache = ["SINGULARITY_CACHEDIR": scratch.file("cache")]
        for _ in 0..<2 {
            let result = try Run.singularity(
                "exec", "docker://\(Site.registry)/debian:latest", "cat", "/etc/debian_version", as: .ordinaryUser, environment: cache)
            #expect(result.status == 0, "\(result)")
            #expect(!result.output.isEmpty)
        }
    }
}
