import Foundation
import Testing

/// Image files that are copied while something is written to them, and the other way round.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"))
struct CopyWhileWritingTests {
    private let scratch: Scratch
    private let image: String

    init() throws {
        scratch = try Scratch("copyWhileWriting\(UInt32.random(in: 0 ... .max))()")
        image = try Site.debian.get()
        let made = try run(["data", "create", "data.sif"])
        try #require(made.status == 0, "\(made)")
    }

    private func run(_ arguments: [String]) throws -> Run {
        try Run.program(Site.program, arguments, as: .ordinaryUser, in: scratch.path)
    }

    private func start(_ program: String, _ arguments: [String]) throws -> Run.Live {
        try Run.start(program, arguments, as: .ordinaryUser, in: scratch.path)
    }

    /// Who copies: `singularity copy`, which marks the file by a lock (F_OFD_SETLK) on one byte, or a program that reads it.
    enum Copier: String, CaseIterable { case marks, reads }

    /// Copies as slowly as it must, until there is a file that stops it.
    private static let copier = """
        import fcntl, os, struct, sys, time
        file = os.open(sys.argv[1], os.O_RDONLY)
        if sys.argv[2] == "marks": fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 1 << 62, 1, 0))
        print("begun", flush=True)
        while not os.path.exists("stop"):
            if sys.argv[2] == "reads": os.pread(file, 4096, 0)
            time.sleep(0.02)
        """

    /// A slow copy of a database was unusable when more was written than the journal holds.
    @Test(arguments: Copier.allCases) func aWriterWaitsWhereTheCopyNeedsTheJournal(_ how: Copier) throws {
        let script = """
            dd if=/dev/urandom of=/mnt/file bs=1M count=32 2>/dev/null; echo before > /mnt/before; sync; echo ready
            while [ ! -e /here/go ]; do sleep 0.02; done
            for i in 1 2 3 4 5 6 7 8 9 10 11 12; do dd if=/dev/zero of=/mnt/file bs=1M count=32 conv=notrunc,fsync 2>/dev/null; echo wrote; done
            """
        let writer = try start(
            Site.program, ["exec", "--no-home", "-B", "\(scratch.path):/here", "--data", "data.sif:/mnt", image, "sh", "-c", script])
        try #require(writer.waitFor("ready", seconds: 30))
        let copier = try start("/usr/bin/python3", ["-c", Self.copier, "data.sif", how.rawValue])
        try #require(copier.waitFor("begun"))
        try scratch.write("go", [])
        usleep(5_000_000)
        #expect(writer.printed().components(separatedBy: "wrote").count - 1 <= 6, "\(writer.printed())")
        #expect(try Run.program("/bin/cp", ["--sparse=always", "data.sif", "copy.sif"], as: .ordinaryUser, in: scratch.path).status == 0)
        try scratch.write("stop", [])
        #expect(copier.finish().status == 0)
        let written = writer.finish()
        #expect(written.status == 0 && written.output.components(separatedBy: "wrote").count - 1 == 12, "\(written)")
        for name in ["copy.sif", "data.sif"] {
            let read = try run(["exec", "--no-home", "--data", "\(name):/mnt", image, "sh", "-c", "cat /mnt/before; wc -c < /mnt/file"])
            #expect(read.output == "before\n33554432\n", "\(name) \(read)")
        }
    }

    /// A word of the superblock of a data container, whose file system begins at 32 KiB ("ext4 Data Structures").
    private func superblock(_ offset: UInt64) throws -> UInt32 {
        let file = try FileHandle(forReadingFrom: URL(filePath: scratch.file("data.sif")))
        defer { try? file.close() }
        try file.seek(toOffset: (32 << 10) + 1024 + offset)
        let bytes = try file.read(upToCount: 4)
        return try #require(bytes).withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
    }

    /// s_feature_incompat: whether the journal needs no replay.
    private func isClean() throws -> Bool { try superblock(0x60) & 4 == 0 }

    /// Our own programs that wait for the file, or look at it, were taken for some that copy it: each use left work to the next one.
    @Test func whoWaitsForTheFileDoesNotCopyIt() throws {
        let name = "waits\(UInt32.random(in: 0 ... .max))"
        let instance = try run(["instance", "start", image, name])
        try #require(instance.status == 0, "\(instance)")
        defer { _ = try? run(["instance", "stop", name]) }
        for _ in 0..<3 {
            #expect(try run(["data", "attach", name, "data.sif:/mnt"]).status == 0)
            #expect(try run(["data", "info", "data.sif"]).status == 0)
            #expect(try run(["data", "detach", name, "/mnt"]).status == 0)
            #expect(try isClean())
        }
        // Each begins while the server of the one before it ends. s_lastcheck: when e2fsck looked at it.
        let checked = try superblock(0x40)
        let use = "\(Site.program) exec --no-home --data data.sif:/mnt \(image) sh -c 'date >> /mnt/dates'"
        let script = "for i in 1 2 3 4 5; do \(use) || exit; done"
        let runs = try start("/bin/sh", ["-c", script]).finish()
        #expect(runs.status == 0, "\(runs)")
        #expect(Wait.until(5) { (try? isClean()) == true })
        #expect(try superblock(0x40) == checked)
    }

    /// Bytes that a process has written to anything (proc_pid_io(5)).
    private func written(by live: Run.Live) -> Int {
        let text = (try? String(contentsOfFile: "/proc/\(live.process.processIdentifier)/io", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").first { $0.hasPrefix("wchar: ") }.flatMap { Int($0.dropFirst(7)) } ?? 0
    }

    @Test func whatIsBeingCopiedIsNotAttached() throws {
        let fill = try run(
            ["exec", "--no-home", "--data", "data.sif:/mnt", image, "dd", "if=/dev/zero", "of=/mnt/file", "bs=1M", "count=700"])
        try #require(fill.status == 0, "\(fill)")
        // It is stopped in the middle: half a second is enough for that, but not on every busy machine the first time.
        var stopped: Run.Live?
        for _ in 0..<10 where stopped == nil {
            let copier = try start(Site.program, ["copy", "data.sif", "copy.sif"])
            // The copy has no name before it is complete.
            let end = Date().addingTimeInterval(10)
            while copier.process.isRunning, written(by: copier) < 1 << 16, Date() < end { usleep(500) }
            kill(copier.process.processIdentifier, SIGSTOP)
            if !scratch.names.contains("copy.sif") {
                stopped = copier
            } else {
                kill(copier.process.processIdentifier, SIGCONT)
                _ = copier.finish()
                try FileManager.default.removeItem(atPath: scratch.file("copy.sif"))
            }
        }
        let copier = try #require(stopped)
        let refused = try run(["exec", "--no-home", "--data", "data.sif:/mnt", image, "true"])
        #expect(refused.status == 255 && refused.error.contains("data.sif is being copied"), "\(refused)")
        kill(copier.process.processIdentifier, SIGCONT)
        let copied = copier.finish()
        #expect(copied.status == 0, "\(copied)")
        let attached = try run(["exec", "--no-home", "--data", "data.sif:/mnt", image, "cmp", "/mnt/file", "/mnt/file"])
        #expect(attached.status == 0, "\(attached)")
    }
}
