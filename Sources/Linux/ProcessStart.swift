import Glibc

/// When processes started, so that a number used again is not taken for the process that had it before.
public enum ProcessStart {
    /// Ticks since boot (proc_pid_stat(5), field 22); nil for a process that is gone, or a zombie, which holds nothing any
    /// more.
    public static func time(of pid: pid_t) -> UInt64? {
        guard let text = try? Files.readText("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[end...].split(separator: " ")
        guard fields.count > 20, fields[1] != "Z" else { return nil }
        return UInt64(fields[20])
    }
}
