import CLinux
import Glibc

/// A set of capabilities, see capabilities(7).
public struct CapabilitySet: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Names without `CAP_`, at the place of their number in linux/capability.h.
    private static let allNames = [
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
        "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
        "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
        "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
    ]

    /// Every capability that this kernel knows.
    public static let full: CapabilitySet = {
        let last = (try? Files.readText("/proc/sys/kernel/cap_last_cap")).flatMap { Int($0.prefix { $0.isNumber }) } ?? allNames.count - 1
        return CapabilitySet(rawValue: last >= 63 ? .max : (1 << UInt64(last + 1)) - 1)
    }()

    public static let systemAdministration = CapabilitySet(rawValue: 1 << 21)

    /// The set that a word names: `CAP_NET_RAW`, `net_raw` or `all`; nil where it names none.
    public init?(named word: String) {
        let upper = word.uppercased()
        if upper == "ALL" {
            self = .full
            return
        }
        let name = upper.hasPrefix("CAP_") ? String(upper.dropFirst(4)) : upper
        guard let number = Self.allNames.firstIndex(of: name) else { return nil }
        self.init(rawValue: 1 << UInt64(number))
    }

    /// With `CAP_`, in the order of their numbers.
    public var names: [String] {
        Self.allNames.enumerated().filter { rawValue & (1 << UInt64($0.offset)) != 0 }.map { "CAP_" + $0.element }
    }

    /// Those that this process may use now.
    public static var effective: CapabilitySet { CapabilitySet(rawValue: clinux_effective_capabilities()) }

    /// Makes this all five sets of this process, so that it is what a program has after execve(2), whoever it runs as.
    public func apply() throws(SystemError) {
        guard clinux_set_capabilities(rawValue) == 0 else { throw .last("set capabilities") }
        // A drop that had no effect must not go unnoticed.
        guard Self.effective.rawValue == rawValue else {
            throw SystemError("set capabilities to \(names.joined(separator: ","))", errno: EPERM)
        }
    }
}
