import Foundation

/// A control group with little memory, as a batch system gives a job one.
struct SmallGroup {
    let path: String

    /// 200 MiB.
    static let bytes = 209_715_200

    /// - Returns: nil where there can be none.
    init?() {
        for (root, limit) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
            let group = "\(root)/singularity-test-\(UInt32.random(in: 0 ... .max))"
            guard Site.isRoot, mkdir(group, 0o755) == 0 else { continue }
            if (try? "\(Self.bytes)".write(toFile: "\(group)/\(limit)", atomically: false, encoding: .utf8)) != nil {
                path = group
                return
            }
            rmdir(group)
        }
        return nil
    }

    /// Whether there can be one here.
    static let isPossible = SmallGroup().map { rmdir($0.path) == 0 } ?? false

    /// Runs the program in it, as the ordinary account.
    func run(_ words: [String], environment: [String: String] = [:], in folder: String = "/") throws -> Run {
        let within = "echo $$ > \(path)/cgroup.procs; exec setpriv --reuid \(Site.user) --regid \(Site.user) --init-groups \"$@\""
        return try Run.program(
            "/bin/sh", ["-c", within, "sh", Site.program] + words,
            environment: environment.merging(["HOME": "/home/\(Site.user)"]) { one, _ in one }, in: folder)
    }

    /// Takes it away when all of its processes have ended.
    func remove() { _ = Wait.until(5) { rmdir(path) == 0 } }
}
