import ExtFS
import Foundation
import Linux
import TestSupport
import Testing

struct VolumeTests {
    private let folder: String

    init() throws {
        var template = Array("/tmp/singularity-ext.XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    private func open(_ path: String) throws -> PlainVolumeFile {
        PlainVolumeFile(SharedDescriptor(try OwnedDescriptor.open(path, O_RDWR)), start: 0)
    }

    private func model(_ path: String, seed: UInt64) throws -> VolumeModel { try VolumeModel(open(path), seed: seed) }

    private func content(_ path: String) throws -> [String: [UInt8]] { try VolumeModel.content(open(path)) }

    private func done() { try? FileManager.default.removeItem(atPath: folder) }

    private func run(_ program: String, _ words: [String]) throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = URL(filePath: program)
        process.arguments = words
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let text = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    private func make(_ name: String, _ options: [String], size: off_t = 64 << 20) throws -> String {
        let path = "\(folder)/\(name)"
        try Data().write(to: URL(filePath: path))
        truncate(path, size)
        let made = try run("/sbin/mke2fs", ["-q", "-F"] + options + [path])
        try #require(made.status == 0, "\(made.text)")
        return path
    }

    private func copy(_ path: String, _ name: String) throws -> String {
        let target = "\(folder)/\(name)"
        try? FileManager.default.removeItem(atPath: target)
        try FileManager.default.copyItem(atPath: path, toPath: target)
        return target
    }

    /// What a crash has left, after the journal was replayed, and whether e2fsck finds nothing to mend.
    private func recovered(_ path: String) throws -> [String: [UInt8]] {
        let file = try open(path)
        #expect(ExtVolume.needsCheck(file))
        _ = try ExtVolume.replayJournal(file, name: path)
        let check = try run("/sbin/e2fsck", ["-f", "-n", path])
        #expect(
            check.status == 0 || !check.text.contains("Fix?") && !check.text.contains("WARNING: Filesystem still has errors"),
            "\(check.text)")
        return try content(path)
    }

    static let kinds: [[String]] = [
        ["-t", "ext4"], ["-t", "ext3"], ["-t", "ext4", "-O", "^metadata_csum,uninit_bg,sparse_super2,^resize_inode"],
        ["-t", "ext4", "-b", "1024"], ["-t", "ext4", "-I", "128"],
    ]

    /// A copy of the file at any moment is what a crash would leave: it has everything up to the last commit, and nothing else.
    @Test(arguments: kinds) func aCrashLeavesTheStateOfTheLastCommit(_ options: [String]) throws {
        defer { done() }
        let path = try make("a.img", options)
        let volume = try model(path, seed: 7)
        for round in 0..<12 {
            for _ in 0..<25 {
                try volume.step()
                if volume.volume.isFull { #expect(volume.volume.commit() == 0) }
            }
            #expect(volume.volume.commit() == 0)
            let committed = volume.model
            // Changes that nobody has waited for are not there, or as a whole.
            try volume.step()
            #expect(try recovered(copy(path, "crash.img")) == committed, "round \(round)")
        }
        #expect(volume.volume.commit() == 0)
        volume.volume.close()
        let check = try run("/sbin/e2fsck", ["-f", "-n", path])
        #expect(!check.text.contains("Fix?"), "\(check.text)")
        #expect(try content(path) == volume.model)
        #expect(!ExtVolume.needsCheck(try open(path)))
    }

    /// A transaction that is not wholly in the journal was never there.
    @Test func aTornTransactionIsNotReplayed() throws {
        defer { done() }
        let path = try make("a.img", Self.kinds[2])
        let volume = try model(path, seed: 3)
        for _ in 0..<60 { try volume.step() }
        #expect(volume.volume.commit() == 0)
        let before = try Data(contentsOf: URL(filePath: path))
        let committed = volume.model
        for _ in 0..<3 { try volume.step() }
        #expect(volume.volume.commit() == 0)
        let after = try Data(contentsOf: URL(filePath: path))
        // Blocks that the second commit has written: any of them may be missing after a power cut.
        let size = 4096
        let changed = (0..<after.count / size).filter { after[$0 * size..<($0 + 1) * size] != before[$0 * size..<($0 + 1) * size] }
        #expect(changed.count > 2)
        for block in changed.prefix(20) {
            var torn = after
            torn.replaceSubrange(block * size..<(block + 1) * size, with: before[block * size..<(block + 1) * size])
            let target = "\(folder)/torn.img"
            try torn.write(to: URL(filePath: target))
            let content = try recovered(target)
            #expect(content == committed, "block \(block)")
        }
    }

    /// e2fsprogs' own reader of journals agrees with ours.
    @Test func e2fsckReplaysOurJournal() throws {
        defer { done() }
        let path = try make("a.img", Self.kinds[0])
        let volume = try model(path, seed: 11)
        for _ in 0..<80 { try volume.step() }
        #expect(volume.volume.commit() == 0)
        let committed = volume.model
        let crash = try copy(path, "crash.img")
        let check = try run("/sbin/e2fsck", ["-f", "-p", crash])
        #expect(check.status <= 1 && check.text.contains("recovering journal"), "\(check.text)")
        #expect(try content(crash) == committed)
    }

    /// The journal is used again and again; older transactions are forgotten when their room is needed.
    @Test func theJournalGoesRound() throws {
        defer { done() }
        let path = try make("a.img", ["-t", "ext4", "-J", "size=4"])
        let volume = try model(path, seed: 5)
        for _ in 0..<40 {
            for _ in 0..<12 {
                try volume.step()
                if volume.volume.isFull { #expect(volume.volume.commit() == 0) }
            }
            #expect(volume.volume.commit() == 0)
        }
        #expect(try recovered(copy(path, "crash.img")) == volume.model)
    }

    /// Room that is taken in advance ends at a group's end, goes over several, and is given back.
    @Test func roomTakenInAdvanceIsNotGivenTwice() throws {
        defer { done() }
        // Groups of 8 MiB.
        let path = try make("a.img", ["-t", "ext4", "-b", "1024", "-g", "8192"], size: 96 << 20)
        func volume() throws -> ExtVolume { try ExtVolume(open(path), name: path, isReadOnly: false) }
        func check() throws {
            let result = try run("/sbin/e2fsck", ["-f", "-n", path])
            #expect(result.status == 0, "\(result.text)")
        }
        func file(_ name: String, in volume: ExtVolume, _ body: (UInt32) throws -> Void) throws {
            try volume.lock.locked {
                let number = try volume.makeNode(
                    Array(name.utf8), in: ExtVolume.root, mode: UInt32(S_IFREG) | 0o600, device: (0, 0), uid: 0, gid: 0)
                try body(number)
            }
        }
        do {
            let volume = try volume()
            // Until a group is full, and over the ends of others.
            for (index, size) in [3 << 20, 5 << 20, 900 << 10, 24 << 20, 1 << 20].enumerated() {
                try file("f\(index)", in: volume) { try volume.reserve($0, from: 0, count: UInt64(size), keepSize: index % 2 == 0) }
                #expect(volume.commit() == 0)
            }
            for index in 0..<40 {
                try file("g\(index)", in: volume) { try volume.reserve($0, from: UInt64(index * 4096), count: 300 << 10, keepSize: true) }
            }
            #expect(volume.commit() == 0)
            volume.close()
        }
        try check()
        do {
            let volume = try volume()
            // What is taken next is nobody's.
            for index in 0..<20 {
                try file("h\(index)", in: volume) { number in
                    let bytes = [UInt8](repeating: UInt8(index), count: 300 << 10)
                    try bytes.withUnsafeBytes { try volume.write(number, at: 0, $0) }
                }
            }
            for name in ["f3", "g7", "f0"] {
                try volume.lock.locked {
                    let number = try volume.remove(Array(name.utf8), from: ExtVolume.root, isDirectory: false)
                    while !(try volume.free(number)) {}
                }
            }
            #expect(volume.commit() == 0)
            volume.close()
        }
        try check()
    }

    /// Whatever is in a file: an error, or something that makes sense, and no crash.
    @Test func damagedFileSystemsAreErrors() throws {
        defer { done() }
        let path = try make("a.img", Self.kinds[0], size: 12 << 20)
        do {
            let volume = try model(path, seed: 1)
            for _ in 0..<60 { try volume.step() }
            _ = volume.volume.commit()
            volume.volume.close()
        }
        let good = [UInt8](try Data(contentsOf: URL(filePath: path)))
        let used = good.indices.filter { good[$0] != 0 }
        var random = Generator(state: 42)
        for _ in 0..<150 {
            var bad = good
            for _ in 0..<Int.random(in: 1...20, using: &random) {
                if let place = used.randomElement(using: &random) { bad[place] = UInt8.random(in: 0...255, using: &random) }
            }
            let target = "\(folder)/bad.img"
            try Data(bad).write(to: URL(filePath: target))
            _ = try? content(target)
            _ = try? ExtVolume.replayJournal(try open(target), name: target)
            if let volume = try? model(target, seed: 2) {
                for _ in 0..<20 { _ = try? volume.step() }
                _ = volume.volume.commit()
            }
        }
    }
}
