/// A line of passwd(5).
package struct AccountLine: Equatable {
    package var name = ""
    package var password = "x"
    package var uid: UInt32 = 0
    package var gid: UInt32 = 0
    package var comment = ""
    package var home = ""
    package var shell = ""

    package init() {}

    /// - Returns: nil for what is no such line.
    package init?(_ line: Substring) {
        let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard fields.count == 7, !fields[0].isEmpty, let uid = UInt32(fields[2]), let gid = UInt32(fields[3]) else { return nil }
        (name, password, self.uid, self.gid) = (fields[0], fields[1], uid, gid)
        (comment, home, shell) = (fields[4], fields[5], fields[6])
    }
}

/// A line of group(5).
package struct GroupLine: Equatable {
    package var name: String
    package var password = "x"
    package var gid: UInt32
    package var members: [String]

    package init(name: String, password: String = "x", gid: UInt32, members: [String]) {
        (self.name, self.password, self.gid, self.members) = (name, password, gid, members)
    }

    /// - Returns: nil for what is no such line.
    package init?(_ line: Substring) {
        let fields = line.split(separator: ":", omittingEmptySubsequences: false)
        guard fields.count == 4, !fields[0].isEmpty, let gid = UInt32(fields[2]) else { return nil }
        self.init(
            name: String(fields[0]), password: String(fields[1]), gid: gid, members: fields[3].split(separator: ",").map(String.init))
    }
}
