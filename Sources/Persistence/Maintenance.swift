import BlockIO
import Encryption
import ExtFS
import Glibc
import Linux
import Runtime
import SIF

/// What an administrator does with writable file systems, by the programs of e2fsprogs.
public struct Maintenance {
    private let image: WritableImage

    /// - Parameter keys: for an encrypted one.
    public init(_ path: String, keys: ImageKeys = .none) throws { image = try WritableImage(path, keys: keys) }

    /// Numbers of a file system.
    public struct Usage: Sendable {
        /// Bytes of its files.
        public var used: UInt64
        public var inodes: UInt32
        public var usedInodes: UInt32
        public var isClean: Bool
    }

    public func usage() throws -> Usage {
        let file = try OwnedDescriptor.open(image.path, O_RDONLY)
        let storage = try image.place.storage(file.rawValue)
        let volume = try ExtVolume(storage, name: image.path, isReadOnly: true)
        let numbers = volume.numbers
        return Usage(
            used: numbers.used * UInt64(numbers.blockSize), inodes: numbers.inodes, usedInodes: numbers.inodes - numbers.freeInodes,
            isClean: !ExtVolume.needsCheck(storage))
    }

    /// Checks the file system.
    /// - Parameter repairs: all that is wrong is mended.
    /// - Returns: what e2fsck says, and whether all is well now.
    public func check(repairs: Bool) throws -> (text: String, isWell: Bool) {
        let held = try image.hold(forWriting: true, asItIs: true, "overlay check")
        return try ExtCheck.check(image.place, file: held.file.rawValue, repairs: repairs)
    }

    /// Gives back what the file takes of the disk and no file in it needs.
    /// - Returns: bytes before and after.
    public func compact() throws -> (before: UInt64, after: UInt64) {
        let held = try image.hold(forWriting: true, asItIs: true, "overlay compact")
        let before = image.usedSize
        let result = try ExtCheck.check(image.place, file: held.file.rawValue, repairs: false, options: ["-E", "discard"])
        guard result.isWell else { throw PersistenceError.refused("\(image.path) cannot be compacted: \(result.text)") }
        return (before, image.usedSize)
    }

    /// Changes how many bytes it may grow to.
    public func resize(to size: UInt64) throws {
        try ExtFormat.check(size: size)
        guard let program = SystemProgram.find("resize2fs") else {
            throw PersistenceError.refused("sizes are changed by the program resize2fs: install the package e2fsprogs")
        }
        guard image.isLast else {
            throw PersistenceError.refused(
                "the partition is not the last object of \(image.path), and cannot change its size; `singularity commit` makes a new image")
        }
        let held = try image.hold(forWriting: true, asItIs: true, "overlay resize")
        let file = held.file.rawValue
        let check = try ExtCheck.check(image.place, file: file, repairs: false)
        guard check.isWell else { throw PersistenceError.refused("\(image.path) has errors: \(check.text)") }
        // resize2fs cuts the file where the file system ends, and knows of nothing before it: it gets a copy.
        let name = "\(image.path).\(getpid()).resize"
        let copy = try OwnedDescriptor.open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        defer { unlink(name) }
        try held.copyContent(to: copy.rawValue, name: name)
        let regionSize = image.isEncrypted ? EncryptedVolume.regionSize(for: size) : size
        if regionSize > image.place.size { _ = try ExtFormat.extend(copy.rawValue, from: 0, size: regionSize, name: name) }
        var part = image.place
        (part.offset, part.size) = (0, max(regionSize, part.size))
        let (status, text) = try resize(part, copy.rawValue, name) { [program, $0, "\(size / 1024)K"] }
        guard status == 0 else {
            throw PersistenceError.refused("\(image.path) cannot have the size \(size >> 20) MiB: resize2fs says \(text)")
        }
        if regionSize > image.place.size { try writeSize(regionSize, file) }
        try held.replaceContent(with: copy.rawValue, size: regionSize)
        if regionSize < image.place.size { try writeSize(regionSize, file) }
        // Its journal may have got another place, and room that it doesn't need.
        part.offset = image.place.offset
        part.size = regionSize
        try ExtVolume(part.storage(file), name: image.path, isReadOnly: false).close()
    }

    /// - Parameter place: of the copy.
    private func resize(
        _ place: ExtPlace, _ copy: CInt, _ name: String, _ arguments: (String) -> [String]
    ) throws -> (status: Int32, text: String) {
        if image.isEncrypted {
            return try VolumeTool.run(place.storage(copy), size: place.volumeSize, image.path, arguments)
        }
        let result = try ChildProcess.run(arguments(name), errors: .inOutput)
        return (result.status, String(decoding: result.output, as: UTF8.self))
    }

    private func writeSize(_ size: UInt64, _ file: CInt) throws {
        if let object = image.object {
            let writer = try SIFWriter(changing: SharedDescriptor(OwnedDescriptor(dup(file))), name: image.path, time: Int64(time(nil)))
            writer.resize(id: object, to: Int64(size))
            try writer.commit()
        }
        guard ftruncate(file, off_t(image.place.offset + size)) == 0, fsync(file) == 0 else {
            throw SystemError.last("write \(image.path)")
        }
    }
}
