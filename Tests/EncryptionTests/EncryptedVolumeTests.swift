import BlockIO
import Cryptography
import ExtFS
import Foundation
import Linux
import TestSupport
import Testing

import Encryption

/// Encrypted file systems that are written to.
@Suite struct EncryptedVolumeTests {
    private let folder: String
    private var path: String { folder + "/volume" }
    private let size: UInt64 = 64 << 20
    private let phrase = SecretBytes("a pass phrase")

    init() throws {
        var template = Array("/tmp/singularity-volume.XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    private func done() { try? FileManager.default.removeItem(atPath: folder) }

    private var regionSize: UInt64 { EncryptedVolume.regionSize(for: size) }

    private func open(_ path: String, _ key: VolumeKey) throws -> EncryptedVolumeFile {
        try EncryptedVolumeFile(
            SharedDescriptor(try OwnedDescriptor.open(path, O_RDWR)), start: 0, size: regionSize, key, name: path)
    }

    /// An empty volume.
    private func make(messages: [[UInt8]] = []) throws -> VolumeKey {
        try Data().write(to: URL(filePath: path))
        truncate(path, off_t(regionSize))
        let file = try OwnedDescriptor.open(path, O_RDWR)
        return try EncryptedVolume.make(file.rawValue, at: 0, phrase, messages: messages, isRandom: true, name: path)
    }

    /// A volume with an empty file system.
    private func format() throws -> VolumeKey {
        let key = try make()
        let plain = folder + "/plain"
        try Data().write(to: URL(filePath: plain))
        truncate(plain, off_t(size))
        let process = Process()
        process.executableURL = URL(filePath: "/sbin/mke2fs")
        process.arguments = ["-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^metadata_csum,uninit_bg,sparse_super2,^resize_inode", plain]
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        let volume = try open(path, key)
        let bytes = try Data(contentsOf: URL(filePath: plain))
        for start in stride(from: 0, to: bytes.count, by: 4096) {
            let block = [UInt8](bytes[start..<start + 4096])
            if block.contains(where: { $0 != 0 }) { try write(block, to: volume, at: UInt64(start)) }
        }
        return key
    }

    private func write(_ bytes: [UInt8], to volume: EncryptedVolumeFile, at offset: UInt64) throws {
        let error = bytes.withUnsafeBytes { volume.write($0, at: offset) }
        if error != 0 { throw SystemError("write", errno: error) }
    }

    private func read(_ count: Int, of volume: EncryptedVolumeFile, at offset: UInt64) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 1, count: count)
        let error = bytes.withUnsafeMutableBytes { volume.read(at: offset, $0) }
        if error != 0 { throw SystemError("read", errno: error) }
        return bytes
    }

    private func unlock(_ keys: EncryptionKeys) throws -> VolumeKey { try EncryptedVolume.unlock(try FileSource(path: path), keys) }

    // MARK: Bytes

    @Test func whatIsWrittenIsReadAgainWithTheKey() throws {
        defer { done() }
        _ = try make()
        let key = try unlock(EncryptionKeys(passphrase: phrase))
        let volume = try open(path, key)
        var model = [UInt8](repeating: 0, count: 2 << 20)
        var random = Generator(state: 8)
        for _ in 0..<400 {
            let start = Int.random(in: 0..<model.count - 1, using: &random)
            let isWhole = Bool.random(using: &random)
            let offset = isWhole ? start / 4096 * 4096 : start
            let length = min(
                isWhole ? 4096 * Int.random(in: 1...20, using: &random) : [1, 100, 5000].randomElement(using: &random) ?? 1,
                model.count - offset)
            if Int.random(in: 0..<6, using: &random) == 0, isWhole {
                #expect(volume.punch(at: UInt64(offset), count: UInt64(length)) == 0)
                model.replaceSubrange(offset..<offset + length, with: repeatElement(0, count: length))
            } else if offset % 4096 + length <= 4096, Bool.random(using: &random) {
                let bytes = try RandomBytes.make(length)
                #expect(bytes.withUnsafeBytes { volume.writeSafely($0, at: UInt64(offset)) } == 0)
                model.replaceSubrange(offset..<offset + length, with: bytes)
            } else {
                let bytes = try RandomBytes.make(length)
                try write(bytes, to: volume, at: UInt64(offset))
                model.replaceSubrange(offset..<offset + length, with: bytes)
            }
        }
        #expect(try read(model.count, of: volume, at: 0) == model)
        // Another process sees the same.
        #expect(try read(model.count, of: try open(path, key), at: 0) == model)
        #expect(try read(8192, of: volume, at: volume.size - 4096) == [UInt8](repeating: 0, count: 8192))
        #expect([1].withUnsafeBytes { volume.write($0, at: volume.size) } == EFBIG)
        // Nothing of it stands in the file.
        let stored = try Data(contentsOf: URL(filePath: path))
        for start in stride(from: 0, to: model.count, by: 4096) where model[start..<start + 16].contains(where: { $0 != 0 }) {
            #expect(stored.range(of: Data(model[start..<start + 16])) == nil)
        }
    }

    @Test func otherKeysOpenNothing() throws {
        defer { done() }
        let recipient = try Recipient(pem: try Fixture.text("enc-pub.pem"), name: "enc-pub.pem")
        let key = try make(messages: [try WrappedKey.wrap(phrase, for: recipient)])
        try write([UInt8](repeating: 7, count: 4096), to: try open(path, key), at: 8192)
        func keys(_ name: String) throws -> EncryptionKeys {
            var keys = EncryptionKeys()
            try keys.add(privateKeyPEM: try Fixture.text(name), name: name)
            return keys
        }
        func refusal(_ keys: EncryptionKeys) -> String {
            do {
                _ = try unlock(keys)
                return ""
            } catch { return "\(error)" }
        }
        #expect(try read(1, of: try open(path, try unlock(keys("enc-key.pem"))), at: 8192) == [7])
        #expect(refusal(EncryptionKeys()).contains("is encrypted: give its key"))
        #expect(refusal(EncryptionKeys(passphrase: SecretBytes("another"))).contains("it opens with an RSA key"))
        #expect(refusal(try keys("rsa-key.pem")).contains("none of its keys is encrypted for the key"))
        // One more owner of a key, until there is no room.
        let file = try OwnedDescriptor.open(path, O_RDWR)
        let other = try Recipient(pem: try Fixture.text("rsa-pub.pem"), name: "rsa-pub.pem")
        func add(_ keys: EncryptionKeys) throws {
            try EncryptedVolume.add(other, to: try FileSource(path: path), keys, file: file.rawValue, start: 0)
        }
        #expect(throws: EncryptionError.self) { try add(keys("rsa-key.pem")) }
        try add(keys("enc-key.pem"))
        #expect(try read(1, of: try open(path, try unlock(keys("rsa-key.pem"))), at: 8192) == [7])
        for _ in 0..<14 { try add(keys("rsa-key.pem")) }
        #expect(try EncryptedVolume.recipients(try FileSource(path: path)).map(\.number) == Array(1...16))
        #expect(throws: EncryptionError.self) { try add(keys("rsa-key.pem")) }
    }

    /// Each changed bit is an error, and no block counts in the place of another.
    @Test func changedBlocksAreErrors() throws {
        defer { done() }
        let key = try make()
        let text = try RandomBytes.make(64 * 4096)
        try write(text, to: try open(path, key), at: 4096)
        let good = [UInt8](try Data(contentsOf: URL(filePath: path)))
        var random = Generator(state: 4)
        let entries = 128 << 10
        for round in 0..<60 {
            var bad = good
            let block = Int.random(in: 0..<64, using: &random)
            let place =
                round % 2 == 0
                ? entries + 4096 * (block + 2) + Int.random(in: 0..<4096, using: &random)
                : entries + 32 * (block + 1) + Int.random(in: 0..<32, using: &random)
            bad[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            try Data(bad).write(to: URL(filePath: path))
            let volume = try open(path, key)
            #expect(throws: SystemError.self) { try read(4096, of: volume, at: UInt64(4096 * (block + 1))) }
            let other = (block + 1) % 64
            #expect(try read(4096, of: volume, at: UInt64(4096 * (other + 1)))[...] == text[other * 4096..<(other + 1) * 4096])
        }
        var swapped = good
        swapped.replaceSubrange(entries + 32..<entries + 64, with: good[entries + 64..<entries + 96])
        swapped.replaceSubrange(entries + 8192..<entries + 12288, with: good[entries + 12288..<entries + 16384])
        try Data(swapped).write(to: URL(filePath: path))
        #expect(throws: SystemError.self) { try read(4096, of: try open(path, key), at: 4096) }
    }

    /// Whatever is in the header: an error, and no crash.
    @Test func damagedHeadersAreErrors() throws {
        defer { done() }
        _ = try make()
        let good = Array(try Data(contentsOf: URL(filePath: path)).prefix(1 << 20))
        let used = good.indices.filter { good[$0] != 0 }
        var random = Generator(state: 3)
        for _ in 0..<300 {
            var bad = good
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bad[used.randomElement(using: &random) ?? 0] = UInt8.random(in: 0...255, using: &random)
            }
            bad[65536 + Int.random(in: 0..<4096, using: &random)] = UInt8.random(in: 0...255, using: &random)
            let source = MemorySource(bad)
            _ = try? EncryptedVolume.unlock(source, EncryptionKeys(passphrase: SecretBytes("another")))
            _ = try? EncryptedVolume.recipients(source)
        }
        _ = try? EncryptedVolume.unlock(MemorySource([UInt8](good.prefix(100))), EncryptionKeys(passphrase: phrase))
    }

    // MARK: Crashes

    private func recovered(_ bytes: Data, _ key: VolumeKey) throws -> [String: [UInt8]] {
        let target = folder + "/crash"
        try bytes.write(to: URL(filePath: target))
        let volume = try open(target, key)
        _ = try ExtVolume.replayJournal(volume, name: target)
        return try VolumeModel.content(open(target, key))
    }

    /// A copy of the file at any moment is what a crash would leave, and of what was written since the commit before any page
    /// may be missing.
    @Test func aCrashLeavesTheStateOfACommit() throws {
        defer { done() }
        let key = try format()
        let model = try VolumeModel(try open(path, key), seed: 7)
        var before: [String: [UInt8]] = [:]
        for round in 0..<6 {
            for _ in 0..<25 {
                try model.step()
                if model.volume.isFull { #expect(model.volume.commit() == 0) }
            }
            #expect(model.volume.commit() == 0)
            before = model.model
            try model.step()
            #expect(try recovered(try Data(contentsOf: URL(filePath: path)), key) == before, "round \(round)")
        }
        #expect(model.volume.commit() == 0)
        let old = try Data(contentsOf: URL(filePath: path))
        before = model.model
        for _ in 0..<4 { try model.step() }
        #expect(model.volume.commit() == 0)
        let new = try Data(contentsOf: URL(filePath: path))
        let pages = (0..<new.count / 4096).filter { new[$0 * 4096..<($0 + 1) * 4096] != old[$0 * 4096..<($0 + 1) * 4096] }
        #expect(pages.count > 3)
        var states = 0
        for page in pages.prefix(24) {
            var torn = new
            torn.replaceSubrange(page * 4096..<(page + 1) * 4096, with: old[page * 4096..<(page + 1) * 4096])
            let content = try recovered(torn, key)
            #expect(content == before || content == model.model, "page \(page)")
            if content == before { states += 1 }
        }
        #expect(states > 0)
        model.volume.close()
        #expect(try VolumeModel.content(open(path, key)) == model.model)
    }
}
