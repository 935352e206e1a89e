import ExtFS
import Foundation
import TestSupport
import Testing

/// A file system that is changed at random, beside a model of what must be in it.
private final class Volume {
    let path: String
    private let file: CInt
    let volume: ExtVolume
    private var random: Generator
    /// Names in the root directory and in `d`, and what is in them.
    private(set) var model: [String: [UInt8]] = [:]
    private var numbers: [String: UInt32] = [:]
    private let directory: UInt32

    init(_ path: String, seed: UInt64) throws {
        self.path = path
        file = open(path, O_RDWR | O_CLOEXEC)
        random = Generator(state: seed)
        volume = try ExtVolume(PlainVolumeFile(file, start: 0), name: path, isReadOnly: false)
        directory = try volume.makeDirectory(Array("d".utf8), in: ExtVolume.root, mode: 0o755, uid: 1, gid: 2)
    }

    deinit { close(file) }

    private func place(_ name: String) -> (UInt32, [UInt8]) {
        name.hasPrefix("d/") ? (directory, Array(name.dropFirst(2).utf8)) : (ExtVolume.root, Array(name.utf8))
    }

    /// Does something at random.
    func step() throws {
        let names = model.keys.sorted()
        let picked = names.randomElement(using: &random)
        switch Int.random(in: 0..<10, using: &random) {
        case 0...2:
            let name = (Bool.random(using: &random) ? "d/" : "") + "f\(Int.random(in: 0..<60, using: &random))"
            guard model[name] == nil else { return }
            let (parent, bytes) = place(name)
            numbers[name] = try volume.makeNode(bytes, in: parent, mode: UInt32(S_IFREG) | 0o644, device: (0, 0), uid: 1000, gid: 1000)
            model[name] = []
        case 3...6:
            guard let name = picked, let number = numbers[name] else { return }
            let offset = Int.random(in: 0..<100_000, using: &random)
            let size = [1, 100, 4096, 20_000, 150_000].randomElement(using: &random) ?? 1
            let bytes = (0..<size).map { _ in UInt8.random(in: 0...255, using: &random) }
            try bytes.withUnsafeBytes { try volume.write(number, at: UInt64(offset), $0) }
            var content = model[name] ?? []
            if content.count < offset + size { content += [UInt8](repeating: 0, count: offset + size - content.count) }
            content.replaceSubrange(offset..<offset + size, with: bytes)
            model[name] = content
        case 7:
            guard let name = picked, let number = numbers[name] else { return }
            let size = Int.random(in: 0..<120_000, using: &random)
            while !(try volume.resize(number, to: UInt64(size))) {}
            var content = Array((model[name] ?? []).prefix(size))
            content += [UInt8](repeating: 0, count: size - content.count)
            model[name] = content
        case 8:
            guard let name = picked else { return }
            let (parent, bytes) = place(name)
            let number = try volume.remove(bytes, from: parent, isDirectory: false)
            while !(try volume.free(number)) {}
            model[name] = nil
            numbers[name] = nil
        default:
            guard let name = picked else { return }
            let target = "d/r\(Int.random(in: 0..<20, using: &random))"
            guard target != name else { return }
            let (parent, old) = place(name)
            let (newParent, new) = place(target)
            if let lost = try volume.rename(old, in: parent, to: new, in: newParent, [], owner: (0, 0)) {
                while !(try volume.free(lost)) {}
            }
            model[target] = model.removeValue(forKey: name)
            numbers[target] = numbers.removeValue(forKey: name)
        }
    }

    /// Everything in a file system as in ``model``.
    static func content(_ path: String) throws -> [String: [UInt8]] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        let volume = try ExtVolume(PlainVolumeFile(file, start: 0), name: path, isReadOnly: true)
        var out: [String: [UInt8]] = [:]
        func read(_ directory: UInt32, _ prefix: String) throws {
            var entries: [VolumeEntry] = []
            try volume.list(directory, from: 0) { entry in
                entries.append(entry)
                return true
            }
            for entry in entries where entry.name.first != UInt8(ascii: ".") && entry.name != Array("lost+found".utf8) {
                let name = prefix + String(decoding: entry.name, as: UTF8.self)
                let inode = try volume.readInode(entry.inode)
                if inode.isDirectory {
                    try read(entry.inode, name + "/")
                } else {
                    var bytes = [UInt8](repeating: 0, count: Int(inode.size))
                    let count = try bytes.withUnsafeMutableBytes { try volume.read(entry.inode, at: 0, into: $0) }
                    #expect(count == bytes.count)
                    out[name] = bytes
                }
            }
        }
        try read(ExtVolume.root, "")
        return out
    }
}

struct VolumeTests {
    private let folder: String

    init() throws {
        var template = Array("/tmp/singularity-ext.XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

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
        let file = open(path, O_RDWR | O_CLOEXEC)
        defer { close(file) }
        #expect(ExtVolume.needsCheck(PlainVolumeFile(file, start: 0)))
        _ = try ExtVolume.replayJournal(PlainVolumeFile(file, start: 0), name: path)
        let check = try run("/sbin/e2fsck", ["-f", "-n", path])
        #expect(
            check.status == 0 || !check.text.contains("Fix?") && !check.text.contains("WARNING: Filesystem still has errors"),
            "\(check.text)")
        return try Volume.content(path)
    }

    static let kinds: [[String]] = [
        ["-t", "ext4"], ["-t", "ext3"], ["-t", "ext4", "-O", "^metadata_csum,uninit_bg,sparse_super2,^resize_inode"],
        ["-t", "ext4", "-b", "1024"], ["-t", "ext4", "-I", "128"],
    ]

    /// A copy of the file at any moment is what a crash would leave: it has everything up to the last commit, and nothing else.
    @Test(arguments: kinds) func aCrashLeavesTheStateOfTheLastCommit(_ options: [String]) throws {
        defer { done() }
        let path = try make("a.img", options)
        let volume = try Volume(path, seed: 7)
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
        #expect(try Volume.content(path) == volume.model)
        let file = open(path, O_RDONLY)
        #expect(!ExtVolume.needsCheck(PlainVolumeFile(file, start: 0)))
        close(file)
    }

    /// A transaction that is not wholly in the journal was never there.
    @Test func aTornTransactionIsNotReplayed() throws {
        defer { done() }
        let path = try make("a.img", Self.kinds[2])
        let volume = try Volume(path, seed: 3)
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
        let volume = try Volume(path, seed: 11)
        for _ in 0..<80 { try volume.step() }
        #expect(volume.volume.commit() == 0)
        let committed = volume.model
        let crash = try copy(path, "crash.img")
        let check = try run("/sbin/e2fsck", ["-f", "-p", crash])
        #expect(check.status <= 1 && check.text.contains("recovering journal"), "\(check.text)")
        #expect(try Volume.content(crash) == committed)
    }

    /// The journal is used again and again; older transactions are forgotten when their room is needed.
    @Test func theJournalGoesRound() throws {
        defer { done() }
        let path = try make("a.img", ["-t", "ext4", "-J", "size=4"])
        let volume = try Volume(path, seed: 5)
        for _ in 0..<40 {
            for _ in 0..<12 {
                try volume.step()
                if volume.volume.isFull { #expect(volume.volume.commit() == 0) }
            }
            #expect(volume.volume.commit() == 0)
        }
        #expect(try recovered(copy(path, "crash.img")) == volume.model)
    }

    /// Whatever is in a file: an error, or something that makes sense, and no crash.
    @Test func damagedFileSystemsAreErrors() throws {
        defer { done() }
        let path = try make("a.img", Self.kinds[0], size: 12 << 20)
        do {
            let volume = try Volume(path, seed: 1)
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
            _ = try? Volume.content(target)
            let file = open(target, O_RDWR | O_CLOEXEC)
            _ = try? ExtVolume.replayJournal(PlainVolumeFile(file, start: 0), name: target)
            close(file)
            if let volume = try? Volume(target, seed: 2) {
                for _ in 0..<20 { _ = try? volume.step() }
                _ = volume.volume.commit()
            }
        }
    }
}
