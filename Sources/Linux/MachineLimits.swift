import CLinux
import Glibc

/// What this process may use of the machine, so that a build inside a batch job stays inside the job.
public enum MachineLimits {
    /// Processors: the least of the affinity mask and the cgroup's quota, at least 1.
    public static var processors: Int {
        var count = max(1, Int(clinux_affinity_count()))
        if let quota = cgroupProcessorQuota { count = min(count, max(1, Int(quota.rounded(.up)))) }
        return count
    }

    /// Bytes of memory: the least of what the machine has and what the cgroup allows.
    public static var memory: UInt64 {
        let physical = UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))) * UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
        return cgroupMemoryMaximum.map { min($0, physical) } ?? physical
    }

    /// Own cgroup folders, nearest first: version 2 and the named version 1 controller.
    private static func cgroupFolders(controller: String) -> [String] {
        guard let text = try? Files.readText("/proc/self/cgroup") else { return [] }
        var folders: [String] = []
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3 else { continue }
            let root: String
            if fields[1].isEmpty {
                root = "/sys/fs/cgroup"
            } else if fields[1].split(separator: ",").contains(Substring(controller)) {
                root = "/sys/fs/cgroup/\(fields[1])"
            } else {
                continue
            }
            var path = String(fields[2])
            while true {
                folders.append(root + (path == "/" ? "" : path))
                guard let slash = path.lastIndex(of: "/"), path != "/", !path.isEmpty else { break }
                path = String(path[..<slash])
            }
        }
        return folders
    }

    private static var cgroupProcessorQuota: Double? {
        var least: Double?
        for folder in cgroupFolders(controller: "cpu") {
            var quota: Double?
            if let text = try? Files.readText(folder + "/cpu.max") {
                let words = text.split(whereSeparator: \.isWhitespace)
                if words.count == 2, let time = Double(words[0]), let period = Double(words[1]), period > 0 {
                    quota = time / period
                }
            } else if let time = number(folder + "/cpu.cfs_quota_us"), time > 0,
                let period = number(folder + "/cpu.cfs_period_us"), period > 0
            {
                quota = time / period
            }
            if let quota { least = min(least ?? quota, quota) }
        }
        return least
    }

    private static var cgroupMemoryMaximum: UInt64? {
        var least: UInt64?
        for folder in cgroupFolders(controller: "memory") {
            for name in ["/memory.max", "/memory.limit_in_bytes"] {
                if let value = number(folder + name), value < 1e18 {
                    least = min(least ?? .max, UInt64(value))
                }
            }
        }
        return least
    }

    private static func number(_ path: String) -> Double? {
        (try? Files.readText(path)).flatMap { Double($0.split(whereSeparator: \.isWhitespace).first ?? "") }
    }
}
