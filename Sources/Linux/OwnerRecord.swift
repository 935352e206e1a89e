import CLinux
import Glibc

/// Owner and kind of a file as they shall be in an image, kept in an extended attribute of a file that cannot have them:
/// one in a user namespace with a single id, or in a sandbox of an ordinary user.
///
/// Text: `UID:GID`, then ` cMAJOR:MINOR` or ` bMAJOR:MINOR` of a device that an empty file stands for, then ` mOCTAL` of a
/// directory that was made writable for its owner.
public struct OwnerRecord: Equatable, Sendable {
    public struct Device: Equatable, Sendable {
        public var isBlock: Bool
        public var major: UInt32
        public var minor: UInt32

        public init(isBlock: Bool, major: UInt32, minor: UInt32) {
            self.isBlock = isBlock
            self.major = major
            self.minor = minor
        }

        /// From `st_rdev` (makedev(3)).
        public init(isBlock: Bool, number: UInt64) {
            self.init(
                isBlock: isBlock, major: UInt32(truncatingIfNeeded: (number >> 8) & 0xfff | (number >> 32) & 0xffff_f000),
                minor: UInt32(truncatingIfNeeded: number & 0xff | (number >> 12) & 0xffff_ff00))
        }

        /// As `st_rdev` has it.
        public var number: UInt64 {
            let major = UInt64(major)
            let minor = UInt64(minor)
            return (major & 0xfff) << 8 | (major & 0xffff_f000) << 32 | minor & 0xff | (minor & 0xffff_ff00) << 12
        }
    }

    public var uid: UInt32
    public var gid: UInt32
    public var device: Device?
    /// Permission bits before they were widened.
    public var mode: UInt16?

    public static let attribute = "user.singularity.stat"
    /// Bytes of the longest text.
    private static let longest = 96

    public init(uid: UInt32, gid: UInt32, device: Device? = nil, mode: UInt16? = nil) {
        self.uid = uid
        self.gid = gid
        self.device = device
        self.mode = mode
    }

    /// Says no more than that the file is root's.
    public var isDefault: Bool { uid == 0 && gid == 0 && device == nil && mode == nil }

    public init?(parsing bytes: some Collection<UInt8>) {
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        guard let first = words.first, let (uid, gid) = Self.pair(first) else { return nil }
        self.init(uid: uid, gid: gid)
        for word in words.dropFirst() {
            switch word.first {
            case "c", "b":
                guard let (major, minor) = Self.pair(word.dropFirst()) else { return nil }
                device = Device(isBlock: word.first == "b", major: major, minor: minor)
            case "m":
                guard let mode = UInt16(word.dropFirst(), radix: 8), mode <= 0o7777 else { return nil }
                self.mode = mode
            default: return nil
            }
        }
    }

    private static func pair(_ text: Substring) -> (UInt32, UInt32)? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let first = UInt32(parts[0]), let second = UInt32(parts[1]) else { return nil }
        return (first, second)
    }

    public var text: String {
        var out = "\(uid):\(gid)"
        if let device { out += " \(device.isBlock ? "b" : "c")\(device.major):\(device.minor)" }
        if let mode { out += " m\(String(mode, radix: 8))" }
        return out
    }

    /// The record of a file; links are followed, as a link can have none.
    public static func read(_ path: UnsafePointer<CChar>) -> OwnerRecord? {
        withUnsafeTemporaryAllocation(byteCount: longest, alignment: 1) { buffer in
            let count = getxattr(path, attribute, buffer.baseAddress, buffer.count)
            return count > 0 ? OwnerRecord(parsing: buffer[..<count]) : nil
        }
    }

    /// Gives a file this record, or none where it would say nothing.
    /// - Returns: 0 or an errno.
    public func write(_ path: UnsafePointer<CChar>) -> CInt {
        if isDefault { return removexattr(path, Self.attribute) == 0 || errno == ENODATA ? 0 : errno }
        let bytes = Array(text.utf8)
        return setxattr(path, Self.attribute, bytes, bytes.count, 0) == 0 ? 0 : errno
    }
}
