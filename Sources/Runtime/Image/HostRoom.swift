import Glibc
import Linux

/// Keeps programs from writing more to a file system of the kernel than the disk under its file has room for: what was
/// promised to them and cannot be kept would be an error of the disk, and the end of the file system.
///
/// ext4 keeps clusters back for itself (`reserved_clusters` in its directory of sysfs). What is missing on the disk is added.
struct HostRoom {
    private let setting: String
    /// When the file system was mounted: clusters kept back, bytes free on the disk, bytes of the file.
    private let kept: UInt64
    private let free: UInt64
    private let size: UInt64

    /// Bytes that are kept free beyond what is missing.
    private static let margin: UInt64 = 64 << 20
    /// Of a cluster; a file system with others is left alone.
    private static let clusterSize: UInt64 = 4096

    private static func setting(_ loop: CInt) -> String { "/sys/fs/ext4/loop\(loop)/reserved_clusters" }

    private static func bytes(_ file: CInt) -> (free: UInt64, size: UInt64)? {
        var host = statvfs()
        guard fstatvfs(file, &host) == 0, let status = try? Files.status(file, name: "image") else { return nil }
        return (UInt64(host.f_bavail) * UInt64(host.f_frsize), UInt64(status.st_blocks) * 512)
    }

    private static func write(_ clusters: UInt64, to setting: String) {
        guard let file = try? OwnedDescriptor.open(setting, O_WRONLY) else { return }
        try? Files.writeAll(Array("\(clusters)\n".utf8), to: file.rawValue, name: setting)
    }

    /// Takes what is missing away from a file system that was just mounted.
    static func begin(loop: CInt, at mountPoint: String, _ file: CInt) {
        var mounted = statvfs()
        guard statvfs(mountPoint, &mounted) == 0, UInt64(mounted.f_frsize) == clusterSize, let host = bytes(file) else { return }
        let usable = (host.free > margin ? host.free - margin : 0) / clusterSize
        let free = UInt64(mounted.f_bfree)
        if free > usable { write(free - usable, to: setting(loop)) }
    }

    /// - Returns: nil where the kernel has no such setting.
    init?(loop: CInt, _ file: CInt) {
        setting = Self.setting(loop)
        guard let text = try? Files.readText(setting), let kept = UInt64(text.filter(\.isNumber)), let now = Self.bytes(file) else {
            return nil
        }
        self.kept = kept
        (free, size) = now
    }

    /// Takes away what others have written to the disk meanwhile. What was written to this file is gone from both.
    func follow(_ file: CInt) {
        guard let now = Self.bytes(file) else { return }
        let others = Int64(free) - Int64(now.free) - (Int64(now.size) - Int64(size))
        let clusters = max(0, Int64(kept) + others / Int64(Self.clusterSize))
        Self.write(UInt64(clusters), to: setting)
    }
}
