/// `/etc/passwd` and `/etc/group` with the caller in them (passwd(5), group(5)).
package enum AccountFiles {
    /// The image's file with the caller's line. A line of the image for the same id keeps its group and shell.
    /// - Returns: nil where there is nothing to change.
    package static func passwd(_ image: [UInt8], _ facts: HostFacts, home: String) -> String? {
        guard let account = facts.account else { return nil }
        var lines = Self.lines(image)
        for (index, line) in lines.enumerated() {
            var fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 7, fields[2] == String(facts.uid) else { continue }
            if facts.uid != 0 {
                fields[0] = account.name
                fields[4] = account.comment
            }
            fields[5] = home
            lines[index] = fields.joined(separator: ":")
            return joined(lines)
        }
        let line = [account.name, "x", String(facts.uid), String(facts.gid), account.comment, home, account.shell]
        // A colon or a newline of the host's entry would make another line of it.
        guard line.allSatisfy({ !$0.contains(":") && !$0.contains("\n") }) else { return nil }
        lines.append(line.joined(separator: ":"))
        return joined(lines)
    }

    /// The image's file with the caller's groups.
    /// - Parameter names: what the host calls the groups.
    package static func group(_ image: [UInt8], _ facts: HostFacts, names: [UInt32: String]) -> String? {
        var lines = Self.lines(image)
        var known = Set(
            lines.compactMap { $0.split(separator: ":", omittingEmptySubsequences: false).dropFirst(2).first.flatMap { UInt32($0) } })
        for id in [facts.gid] + facts.groups {
            guard let name = names[id], known.insert(id).inserted, !name.contains(":"), !name.contains("\n") else { continue }
            lines.append("\(name):x:\(id):\(facts.account?.name ?? "")")
        }
        return joined(lines)
    }

    private static func lines(_ bytes: [UInt8]) -> [String] {
        String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    private static func joined(_ lines: [String]) -> String { lines.joined(separator: "\n") + "\n" }
}
