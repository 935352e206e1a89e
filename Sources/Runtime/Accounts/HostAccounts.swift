import Glibc
import Linux

/// The accounts that the host's name service knows, whatever it asks for them: files, LDAP, SSSD, winbind.
package enum HostAccounts {
    /// Numbers below are those of a system's own accounts, and each image has its own. The last one is nobody's.
    private static let shared: Range<UInt32> = 1000..<UInt32.max
    private static let nobody: UInt32 = 65534

    private static func isShared(_ id: UInt32) -> Bool { shared.contains(id) && id != nobody }

    /// Whether the host's name service asks more than files of which each system has its own (nsswitch.conf(5)).
    /// - Parameter text: of the file.
    package static func areElsewhere(nameServiceSwitch text: String) -> Bool {
        let own: Set<Substring> = ["files", "compat", "systemd", "mymachines"]
        return text.split(separator: "\n").contains { line in
            let words = line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }
            guard words.first == "passwd:" || words.first == "group:" else { return false }
            return words.dropFirst().contains { !own.contains($0) && !$0.hasPrefix("[") && !$0.hasSuffix("]") }
        }
    }

    static func user(named name: String) -> AccountLine? {
        line { getpwnam_r(name, $0, $1, $2, $3) }
    }

    static func user(_ id: UInt32) -> AccountLine? {
        isShared(id) ? line { getpwuid_r(id, $0, $1, $2, $3) } : nil
    }

    static func group(named name: String) -> GroupLine? {
        groupLine { getgrnam_r(name, $0, $1, $2, $3) }
    }

    static func group(_ id: UInt32) -> GroupLine? {
        isShared(id) ? groupLine { getgrgid_r(id, $0, $1, $2, $3) } : nil
    }

    /// The numbers of the groups that a user of the host is in.
    static func groups(of name: String) -> [UInt32] {
        guard let user = user(named: name) else { return [] }
        var count: CInt = 256
        while true {
            var groups = [gid_t](repeating: 0, count: Int(count))
            let room = count
            if getgrouplist(name, user.gid, &groups, &count) >= 0 { return groups.prefix(Int(count)).filter(isShared) }
            guard count > room, count <= 65536 else { return [] }
        }
    }

    // MARK: The C library's calls

    /// Bytes of the largest line that is passed on.
    private static let largestLine = 16 << 20

    /// Calls a function of the kind of getpwnam_r(3) with as much room as it needs.
    private static func call<Entry>(
        _ empty: Entry,
        _ ask: (UnsafeMutablePointer<Entry>, UnsafeMutablePointer<CChar>, Int, UnsafeMutablePointer<UnsafeMutablePointer<Entry>?>) -> CInt,
        _ found: (Entry) -> Void
    ) {
        var size = 4096
        while size <= largestLine {
            let room = UnsafeMutablePointer<CChar>.allocate(capacity: size)
            defer { room.deallocate() }
            var entry = empty
            var result: UnsafeMutablePointer<Entry>?
            let error = ask(&entry, room, size, &result)
            if error == ERANGE {
                size *= 4
                continue
            }
            if let result { found(result.pointee) }
            return
        }
    }

    private static func text(_ pointer: UnsafeMutablePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "" }

    private static func line(
        _ ask: (UnsafeMutablePointer<passwd>, UnsafeMutablePointer<CChar>, Int, UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>) -> CInt
    ) -> AccountLine? {
        var line: AccountLine?
        call(passwd(), ask) { entry in
            guard isShared(entry.pw_uid) else { return }
            var found = AccountLine()
            found.name = text(entry.pw_name)
            (found.uid, found.gid) = (entry.pw_uid, entry.pw_gid)
            (found.comment, found.home, found.shell) = (text(entry.pw_gecos), text(entry.pw_dir), text(entry.pw_shell))
            line = found
        }
        return line
    }

    private static func groupLine(
        _ ask: (UnsafeMutablePointer<group>, UnsafeMutablePointer<CChar>, Int, UnsafeMutablePointer<UnsafeMutablePointer<group>?>) -> CInt
    ) -> GroupLine? {
        var line: GroupLine?
        call(Glibc.group(), ask) { entry in
            guard isShared(entry.gr_gid) else { return }
            var members: [String] = []
            var next = entry.gr_mem
            while let member = next?.pointee {
                members.append(text(member))
                next = next?.advanced(by: 1)
            }
            line = GroupLine(name: text(entry.gr_name), gid: entry.gr_gid, members: members)
        }
        return line
    }
}
