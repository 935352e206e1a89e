import CLinux
import Glibc
import Linux

/// What the plan has to know of the host and of the caller.
public struct HostFacts: Sendable {
    public var uid: UInt32
    public var gid: UInt32
    public var groups: [UInt32]
    /// What the host calls the groups.
    public var groupNames: [UInt32: String] = [:]
    /// Line of the password file; nil where the name service does not know the caller.
    public var account: Account?
    public var workingDirectory: String?
    public var environment: [(name: String, value: String)]
    public var umask: UInt32
    /// Whether the caller may mount without a user namespace.
    public var mayMount: Bool

    /// A line of passwd(5).
    public struct Account: Sendable, Equatable {
        public var name: String
        public var comment: String
        public var home: String
        public var shell: String

        public init(name: String, comment: String, home: String, shell: String) {
            self.name = name
            self.comment = comment
            self.home = home
            self.shell = shell
        }
    }

    public init(
        uid: UInt32, gid: UInt32, groups: [UInt32], account: Account?, workingDirectory: String?,
        environment: [(name: String, value: String)], umask: UInt32, mayMount: Bool
    ) {
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.account = account
        self.workingDirectory = workingDirectory
        self.environment = environment
        self.umask = umask
        self.mayMount = mayMount
    }

    /// The present process.
    public static func current() -> HostFacts {
        let uid = getuid()
        var account: Account?
        if let entry = getpwuid(uid)?.pointee {
            account = Account(
                name: String(cString: entry.pw_name), comment: entry.pw_gecos.map { String(cString: $0) } ?? "",
                home: String(cString: entry.pw_dir), shell: String(cString: entry.pw_shell))
        }
        var groups = [gid_t](repeating: 0, count: Int(max(0, getgroups(0, nil))))
        let count = getgroups(CInt(groups.count), &groups)
        let mask = Glibc.umask(0)
        Glibc.umask(mask)
        var facts = HostFacts(
            uid: uid, gid: getgid(), groups: Array(groups.prefix(Int(max(0, count)))), account: account,
            workingDirectory: Files.workingDirectory, environment: Environment.pairs, umask: mask,
            mayMount: CapabilitySet.effective.contains(.systemAdministration))
        for id in Set([facts.gid] + facts.groups) {
            if let entry = getgrgid(id)?.pointee { facts.groupNames[id] = String(cString: entry.gr_name) }
        }
        return facts
    }
}
