import CLinux
import Encryption
import ExtFS
import Glibc
import Linux
import Runtime

/// Makes ext4 file systems, by mkfs.ext4.
enum ExtFormat {
    /// Bytes that a new one may grow to, where no size is asked for: as much as its tables cost nothing, and more than any
    /// disk of a laptop has.
    static let defaultSize: UInt64 = 1 << 40
    /// The same for ext3, all of whose tables are read at each mount.
    static let defaultSizeOfExt3: UInt64 = 64 << 30
    /// The peers' limit.
    private static let leastSize: UInt64 = 64 << 20
    static func check(size: UInt64) throws {
        guard size >= leastSize else { throw PersistenceError.refused("image size must be equal or greater than 64 MiB") }
    }

    /// Bytes from which on a file system has a large journal.
    private static let largeSize: UInt64 = 4 << 30

    /// Whose a new file system is.
    struct Owner {
        var uid: UInt32
        var gid: UInt32
    }

    /// Whether a file system has nothing that ext3 had not.
    static func isExt3(_ file: CInt, _ place: ExtPlace) -> Bool {
        guard place.encryption == .none else { return false }
        var features: UInt32 = 0
        let extents: UInt32 = 0x40
        return withUnsafeMutableBytes(of: &features) { pread(file, $0.baseAddress, 4, Int(place.offset) + 1024 + 96) } == 4
            && features & extents == 0
    }

    static func isExt(_ file: CInt, at offset: UInt64) -> Bool {
        var magic: UInt16 = 0
        return withUnsafeMutableBytes(of: &magic) { pread(file, $0.baseAddress, 2, Int(offset) + 1080) } == 2 && magic == 0xef53
    }

    /// Makes room for a file system at the end of a file: a hole.
    /// - Returns: how many bytes it may have. Less than asked for, where that is no user's wish, on a file system whose files
    ///   cannot be as large.
    static func extend(_ file: CInt, from offset: UInt64, size: UInt64?, isExt3: Bool = false, name: String) throws -> UInt64 {
        var wanted = size ?? (isExt3 ? defaultSizeOfExt3 : defaultSize)
        while true {
            // The limit of a process's files would be a signal.
            let old = signal(SIGXFSZ, SIG_IGN)
            defer { signal(SIGXFSZ, old) }
            if ftruncate(file, off_t(offset + wanted)) == 0 { return wanted }
            let error = SystemError.last("make \(name) larger")
            guard size == nil, error.errno == EFBIG || error.errno == EINVAL, wanted > 1 << 30 else { throw error }
            wanted /= 2
        }
    }

    /// Makes a new part of a file empty: nothing of what was there before may be taken for a part of a file system.
    static func clear(_ file: CInt, _ place: ExtPlace) throws {
        if clinux_punch_hole(file, place.offset, place.size) != 0 { try zeroHead(file, at: place.offset, name: place.path) }
    }

    /// Makes a file system in the place of another one. Who can open an encrypted one can open the new one.
    static func remake(_ file: CInt, _ place: ExtPlace, owner: Owner) throws {
        let isExt3 = isExt3(file, place)
        if place.encryption == .none {
            try clear(file, place)
        } else {
            // Without its key nothing is lost.
            _ = try place.storage(file)
            for part in EncryptedVolume.contentParts(ofRegion: place.size) {
                guard clinux_punch_hole(file, place.offset + part.offset, part.count) == 0 else {
                    throw SystemError.last("empty \(place.path)")
                }
            }
        }
        try make(file, place, owner: owner, directories: OverlayPartition.layout(.init()), isExt3: isExt3)
    }

    /// Makes a file system in a part of a file that is a hole, with directories in it.
    /// - Parameters:
    ///   - place: has a header where it is encrypted.
    ///   - directories: paths of new directories, parents first.
    ///   - isExt3: with nothing that ext3 had not: the peers take no other.
    static func make(_ file: CInt, _ place: ExtPlace, owner: Owner, directories: [String], isExt3: Bool = false) throws {
        let name = place.path
        let storage = try place.storage(file)
        if place.encryption == .none {
            try runProgram(file, at: place.offset, size: place.size, owner, isExt3: isExt3, name: name)
            // mkfs.ext4 writes zeros where it can't be lazy.
            if isExt3 { SparseCopy.dig(file, from: place.offset, count: place.size) }
        } else {
            // An empty file system is no secret: it is made in the clear.
            let plain = try OutputFile.unnamed(beside: name)
            guard ftruncate(plain.rawValue, off_t(place.volumeSize)) == 0 else { throw SystemError.last("make \(name)") }
            try runProgram(plain.rawValue, at: 0, size: place.volumeSize, owner, isExt3: false, name: name)
            try SparseCopy.copy(plain.rawValue, count: place.volumeSize, to: storage, name: name)
        }
        let volume = try ExtVolume(storage, name: name, isReadOnly: false)
        do throws(ExtError) {
            // A program that wants an empty directory must not find this one; e2fsck makes it again when it needs it.
            try volume.dropEmptyLostAndFound()
            for path in directories {
                var parent = ExtVolume.root
                for part in path.split(separator: "/").map({ Array($0.utf8) }) {
                    if let there = try volume.lookUp(part, in: parent) {
                        parent = there
                    } else {
                        parent = try volume.makeDirectory(part, in: parent, mode: 0o755, uid: owner.uid, gid: owner.gid)
                    }
                }
            }
        } catch { throw SystemError("make directories in \(name)", errno: error.errno) }
        volume.close()
        guard fsync(file) == 0 else { throw SystemError.last("write \(name)") }
    }

    private static func runProgram(_ file: CInt, at offset: UInt64, size: UInt64, _ owner: Owner, isExt3: Bool, name: String) throws {
        guard let program = SystemProgram.find("mkfs.ext4") else {
            throw PersistenceError.refused("a writable file system is made by mkfs.ext4: install the package e2fsprogs")
        }
        let isLarge = size >= largeSize
        // The same on every host. No checksums of metadata: what is written goes through the journal, which has some. Tables of
        // inodes are holes.
        let features =
            isExt3
            ? "none,has_journal,ext_attr,dir_index,filetype,sparse_super,large_file"
            : "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,sparse_super2,large_file,huge_file,uninit_bg,dir_nlink,extra_isize"
        var options = [
            "-q", "-F", "-b", "4096", "-I", "256", "-m", "0", "-O", features, "-J", "size=\(isLarge ? 128 : 16)", "-E",
            "\(isExt3 ? "" : "lazy_itable_init=1,")lazy_journal_init=1,nodiscard,root_owner=\(owner.uid):\(owner.gid)"
                + (offset > 0 ? ",offset=\(offset)" : ""),
        ]
        if isLarge { options += ["-i", "65536"] }
        let copy = dup(file)
        defer { close(copy) }
        let result = try ChildProcess.run(
            [program] + options + ["/proc/self/fd/\(copy)", "\(size / 1024)k"], errors: .inOutput, environment: ["MKE2FS_CONFIG=/dev/null"])
        guard result.status == 0 else {
            throw PersistenceError.refused("\(name): mkfs.ext4 has failed (\(String(decoding: result.output, as: UTF8.self)))")
        }
    }

    private static func zeroHead(_ file: CInt, at offset: UInt64, name: String) throws {
        try [UInt8](repeating: 0, count: 1 << 20).withUnsafeBytes { try Files.writeAll($0, to: file, at: offset, name: name) }
    }
}
