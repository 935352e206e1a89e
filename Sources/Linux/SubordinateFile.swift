import Glibc

/// /etc/subuid or /etc/subgid, to be changed by an administrator (subuid(5)).
public struct SubordinateFile {
    private let path: String
    /// Ids that a user gets.
    private static let count: UInt64 = 65536
    /// The first id that is given away.
    private static let first: UInt64 = 100_000

    public init(_ path: String) { self.path = path }

    /// - Parameter action: `add`, `remove`, `disable` or `enable`.
    public func change(_ action: String, _ user: String) throws(SystemError) {
        let text = (try? Files.readText(path)) ?? ""
        var lines = text.split(separator: "\n").map(String.init)
        func isOf(_ line: String, _ name: String) -> Bool { line.hasPrefix(name + ":") }
        switch action {
        case "add":
            if lines.contains(where: { isOf($0, user) || isOf($0, "!" + user) }) { return }
            let ends = lines.compactMap { line -> UInt64? in
                let fields = line.split(separator: ":")
                guard fields.count == 3, let start = UInt64(fields[1]), let count = UInt64(fields[2]) else { return nil }
                return start + count
            }
            // Behind all others, at a multiple of the count.
            let start = max(Self.first, ((ends.max() ?? 0) + Self.count - 1) / Self.count * Self.count)
            guard start + Self.count < UInt64(UInt32.max) else { throw SystemError("find ids that nobody has in \(path)", errno: ENOSPC) }
            lines.append("\(user):\(start):\(Self.count)")
        case "remove": lines.removeAll { isOf($0, user) || isOf($0, "!" + user) }
        case "disable": lines = lines.map { isOf($0, user) ? "!" + $0 : $0 }
        default: lines = lines.map { isOf($0, "!" + user) ? String($0.dropFirst()) : $0 }
        }
        try Files.replace(path, with: Array((lines.joined(separator: "\n") + "\n").utf8), mode: 0o644)
    }
}
