import Glibc
import Linux

/// What an instance takes of the machine at one moment.
public struct InstanceUsage: Sendable {
    /// Nanoseconds of all processors since its start.
    public var cpuTime: UInt64 = 0
    /// Bytes.
    public var memory: UInt64 = 0
    public var memoryLimit: UInt64 = 0
    public var blockRead: UInt64 = 0
    public var blockWritten: UInt64 = 0
    public var processes: Int = 0
    /// Monotonic nanoseconds at which this was found.
    public var time: UInt64 = 0

    /// Reads it: from the control group where there is one, and from the processes of its PID namespace otherwise.
    public init(_ record: InstanceRecord) {
        time = MonotonicClock.nanoseconds
        memoryLimit = Self.machineMemory
        readProcesses(record)
        if !record.cgroupPath.isEmpty { readGroup(record.cgroupPath) }
    }

    private static var machineMemory: UInt64 {
        guard let text = try? Files.readText("/proc/meminfo"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemTotal:") }),
            let number = line.split(separator: " ").dropFirst().first.flatMap({ UInt64($0) })
        else { return 0 }
        return number * 1024
    }

    private static func number(_ path: String) -> UInt64? {
        (try? Files.readText(path)).flatMap { UInt64($0.split(separator: "\n").first ?? "") }
    }

    private mutating func readGroup(_ folder: String) {
        if let bytes = Self.number(folder + "/memory.current") ?? Self.number(folder + "/memory.usage_in_bytes") { memory = bytes }
        if let limit = Self.number(folder + "/memory.max") ?? Self.number(folder + "/memory.limit_in_bytes"), limit < memoryLimit {
            memoryLimit = limit
        }
        if let text = try? Files.readText(folder + "/cpu.stat"),
            let line = text.split(separator: "\n").first(where: { $0.hasPrefix("usage_usec") }),
            let number = line.split(separator: " ").last.flatMap({ UInt64($0) })
        {
            cpuTime = number * 1000
        }
    }

    private mutating func readProcesses(_ record: InstanceRecord) {
        guard let namespace = Files.readLink("/proc/\(record.pid)/ns/pid") else { return }
        let ticks = UInt64(max(1, sysconf(CInt(_SC_CLK_TCK))))
        let page = UInt64(max(1, getpagesize()))
        for name in (try? Files.entries("/proc")) ?? [] where name.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) {
            guard Files.readLink("/proc/\(name)/ns/pid") == namespace, let text = try? Files.readText("/proc/\(name)/stat"),
                let end = text.lastIndex(of: ")")
            else { continue }
            let fields = text[end...].split(separator: " ")
            guard fields.count > 22 else { continue }
            processes += 1
            // proc_pid_stat(5): user and system time, of itself and of children that it has waited for; resident pages.
            let time = [12, 13, 14, 15].reduce(UInt64(0)) { $0 + (UInt64(fields[$1]) ?? 0) }
            cpuTime += time * (1_000_000_000 / ticks)
            memory += (UInt64(fields[22]) ?? 0) * page
            guard let io = try? Files.readText("/proc/\(name)/io") else { continue }
            for line in io.split(separator: "\n") {
                let value = line.split(separator: " ").last.flatMap { UInt64($0) } ?? 0
                if line.hasPrefix("read_bytes:") { blockRead += value }
                if line.hasPrefix("write_bytes:") { blockWritten += value }
            }
        }
    }
}
