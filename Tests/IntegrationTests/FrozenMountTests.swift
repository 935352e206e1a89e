import Foundation
import Testing

/// File systems that the kernel has mounted for root stand still while root's programs copy the file.
@Suite(.enabled(if: Site.isPrepared && Site.isRoot, "needs scripts/test.sh and root"), .serialized)
final class FrozenMountTests {
    enum Place: CaseIterable { case data, partition, overlay }

    private let scratch: Scratch
    private let image: String
    private var writer: Run.Live?
    private var readers: [Run.Live] = []

    init() throws {
        scratch = try Scratch("frozenMount\(UInt32.random(in: 0 ... .max))()")
        image = try Site.debian.get()
    }

    deinit {
        readers.forEach { $0.process.terminate() }
        _ = try? scratch.write("stop", [])
        _ = writer?.finish(timeout: 20)
    }

    private func must(_ arguments: String...) throws {
        let result = try Run.program(Site.program, arguments, in: scratch.path)
        try #require(result.status == 0, "\(result)")
    }

    /// Writes a line for each file that was made, until there is a file that stops it.
    private func startWriting(_ place: Place) throws {
        let options: [String]
        var root = image
        switch place {
        case .data:
            try must("data", "create", "file")
            options = ["--data", "file:/srv"]
        case .partition:
            try FileManager.default.copyItem(atPath: image, toPath: scratch.file("file"))
            try must("overlay", "create", "file")
            options = ["--writable"]
            root = "file"
        case .overlay:
            try must("overlay", "create", "file")
            options = ["--overlay", "file"]
        }
        let script = "while [ ! -e /here/stop ]; do echo x > /srv/x; sync -f /srv/x; echo wrote; sleep 0.05; done"
        let writer = try Run.start(
            Site.program, ["exec", "--no-home", "-B", "\(scratch.path):/here"] + options + [root, "sh", "-c", script], in: scratch.path)
        self.writer = writer
        try #require(writer.waitFor("wrote", seconds: 30), "\(writer.finish(timeout: 1))")
    }

    private var count: Int { (writer?.printed() ?? "").components(separatedBy: "wrote").count - 1 }

    /// Lines that were written in a while.
    private func written(in seconds: Double) -> Int {
        let before = count
        usleep(UInt32(seconds * 1_000_000))
        return count - before
    }

    /// Opens the file, and reads it every now and then or not at all.
    private func startReading(_ reads: Bool = true) throws -> Run.Live {
        let script = """
            import os, time
            file = os.open("file", os.O_RDONLY)
            print("open", flush=True)
            while True:
                if \(reads ? "True" : "False"): os.pread(file, 4096, 0)
                time.sleep(0.05)
            """
        let reader = try Run.start("/usr/bin/python3", ["-c", script], in: scratch.path)
        readers.append(reader)
        try #require(reader.waitFor("open"))
        return reader
    }

    private func end(_ reader: Run.Live) {
        reader.process.terminate()
        _ = reader.finish(timeout: 10)
    }

    /// The processes of the file: who keeps it, the guard, and who lets go of the file system.
    private func keepers() -> [pid_t] {
        Processes.living(named: "singularity-fs", with: scratch.file("file")).sorted()
    }

    @Test(arguments: Place.allCases) func itStandsStillWhileTheFileIsCopied(_ place: Place) throws {
        try startWriting(place)
        #expect(written(in: 1) > 3)
        let reader = try startReading()
        // One line may be on its way.
        #expect(written(in: 4.5) <= 1)
        // Our own programs see other parts of the file, and need not wait.
        try must("sif", "list", place == .overlay ? image : "file")
        end(reader)
        #expect(Wait.until(5) { written(in: 0.5) > 1 })
        try must("copy", "file", "copy")
        #expect(Wait.until(5) { written(in: 0.5) > 1 })
        try must(place == .data ? "data" : "overlay", "check", "copy")
    }

    @Test func whoDoesNotReadIsNotWaitedFor() throws {
        try startWriting(.data)
        let reader = try startReading(false)
        #expect(Wait.until(10) { written(in: 0.5) > 1 })
        end(reader)
    }

    /// What a program of another user does must not stop root's.
    @Test func othersStopNothing() throws {
        try startWriting(.data)
        chmod(scratch.path, 0o755)
        chmod(scratch.file("file"), 0o644)
        let script = """
            import time
            file = open("file", "rb", 0)
            while True:
                file.read(1)
                print("read", flush=True)
                time.sleep(0.05)
            """
        let reader = try Run.start("/usr/bin/python3", ["-c", script], as: .ordinaryUser, in: scratch.path)
        readers.append(reader)
        try #require(reader.waitFor("read"))
        #expect(written(in: 1) > 3)
        end(reader)
    }

    /// A file system that stayed frozen would hang its programs for good.
    @Test(arguments: [0, 1, 2]) func itGoesOnWhoeverIsKilled(_ victim: Int) throws {
        try startWriting(.data)
        let reader = try startReading()
        #expect(written(in: 1) <= 1)
        let processes = keepers()
        try #require(processes.count == 3, "\(processes)")
        kill(processes[victim], SIGKILL)
        end(reader)
        #expect(Wait.until(5) { written(in: 0.5) > 1 })
    }

    @Test func aContainerMayEndMeanwhile() throws {
        try startWriting(.data)
        let reader = try startReading()
        #expect(written(in: 1) <= 1)
        writer?.process.terminate()
        usleep(300_000)
        end(reader)
        try scratch.write("stop", [])
        _ = writer?.finish(timeout: 10)
        #expect(Wait.until(5) { keepers().isEmpty })
        try must("data", "check", "file")
    }
}
