import ExtFS
import Glibc
import Linux

/// A file system that is changed at random, beside a model of what must be in it.
public final class VolumeModel {
    public let volume: ExtVolume
    private var random: Generator
    /// Names in the root directory and in `d`, and what is in them.
    public private(set) var model: [String: [UInt8]] = [:]
    private var numbers: [String: UInt32] = [:]
    private let directory: UInt32

    public init(_ storage: any VolumeStorage, seed: UInt64) throws {
        random = Generator(state: seed)
        volume = try ExtVolume(storage, name: "test", isReadOnly: false)
        directory = try volume.makeDirectory(Array("d".utf8), in: ExtVolume.root, mode: 0o755, uid: 1, gid: 2)
    }

    private func place(_ name: String) -> (UInt32, [UInt8]) {
        name.hasPrefix("d/") ? (directory, Array(name.dropFirst(2).utf8)) : (ExtVolume.root, Array(name.utf8))
    }

    /// Does something at random.
    public func step() throws {
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
    public static func content(_ storage: any VolumeStorage) throws -> [String: [UInt8]] {
        let volume = try ExtVolume(storage, name: "test", isReadOnly: true)
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
                    if count != bytes.count { throw SystemError("read all of \(name)", errno: EIO) }
                    out[name] = bytes
                }
            }
        }
        try read(ExtVolume.root, "")
        return out
    }
}
