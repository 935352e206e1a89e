import FUSEServer
import Glibc
import Linux

/// Who a build section is, and how owners that it sets are kept.
public enum BuildIdentity: Sendable, Equatable {
    /// Root of the host, or of a container that lets it make no user namespace.
    case root
    /// Root of a user namespace with the user's subordinate ids, which exist there.
    case ranges(SubordinateIDs)
    /// Root of a user namespace in which nobody else exists; owners are recorded.
    case recorded

    /// What this process can have.
    /// - Parameter ignoresRanges: owners are recorded although there are subordinate ids.
    public static func available(ignoresRanges: Bool = false) -> BuildIdentity {
        let facts = HostFacts.current()
        if facts.uid == 0 && (facts.mayMount || !UserNamespace.isAvailable) { return .root }
        if !ignoresRanges, let account = facts.account, let ids = SubordinateIDs.of(user: account.name, uid: facts.uid) {
            return .ranges(ids)
        }
        return .recorded
    }

    /// Whether this host lets images run as containers. Where it does not, a section runs in an unpacked tree by chroot(2).
    public var mayRunContainers: Bool { self != .root || !ChangedRoot.isNeeded }

    /// Enters the user namespace. Only for a process with one thread.
    public func enter() throws(RuntimeError) {
        do throws(SystemError) {
            switch self {
            case .root: break
            case .ranges(let ids): try UserNamespace.enter(asRootWith: ids)
            case .recorded: try UserNamespace.enterAsRoot()
            }
        } catch {
            throw .step(
                "creating a user namespace for the build", error,
                hint: "this host does not let ordinary users do that; `singularity doctor` names the setting and the remedy")
        }
    }

    /// Whose the files of an image appear to be.
    var ownership: Ownership {
        switch self {
        case .root: .asStored
        case .ranges(let ids): ids.ownership
        case .recorded: .recorded
        }
    }

    /// For people.
    public var explanation: String {
        switch self {
        case .root: "as root"
        case .ranges: "in a user namespace with the ranges of /etc/subuid and /etc/subgid"
        case .recorded: "in a user namespace with one id; owners that programs set are recorded"
        }
    }
}
