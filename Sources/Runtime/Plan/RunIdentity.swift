import FUSEServer
import Glibc
import Linux

/// Whose ids exist in a container, and which of them the program has.
public enum RunIdentity: Sendable, Equatable {
    /// The host's ids; no user namespace.
    case host
    /// One user and one group, which are the caller outside.
    case single(uid: UInt32, gid: UInt32)
    /// Root, and the caller's subordinate ids.
    case ranges(SubordinateIDs)

    /// What the options and the host come to.
    static func choose(_ options: RunOptions, _ facts: HostFacts) throws(RuntimeError) -> RunIdentity {
        let isRoot = facts.uid == 0 && facts.mayMount
        if options.fakeRoot && !(facts.uid == 0 && !options.newUser) {
            if options.securityUser != nil || !options.securityGroups.isEmpty {
                throw .badOption("--security uid: and gid: cannot be used with --fakeroot, which makes the caller root")
            }
            if !options.ignoresSubordinateIDs, let account = facts.account,
                let ids = SubordinateIDs.of(user: account.name, uid: facts.uid)
            {
                return .ranges(ids)
            }
            return .single(uid: 0, gid: 0)
        }
        if isRoot && !options.newUser { return .host }
        return .single(uid: options.securityUser ?? facts.uid, gid: options.securityGroups.first ?? facts.gid)
    }

    var isUserNamespace: Bool { self != .host }

    /// Equal for identities that can be in one user namespace.
    var key: String {
        switch self {
        case .host: "host"
        case .single(let uid, let gid): "\(uid):\(gid)"
        case .ranges(let ids): (ids.users + ids.groups).map { "\($0.start)+\($0.count)" }.joined(separator: ",")
        }
    }

    /// Moves this process into a user namespace of this kind. Only for a process with one thread.
    func enter() throws(SystemError) {
        switch self {
        case .host: break
        case .single(let uid, let gid): try UserNamespace.enter(inside: (uid, gid))
        case .ranges(let ids): try UserNamespace.enter(asRootWith: ids)
        }
    }

    /// Whose the files of an image appear to be.
    var ownership: Ownership {
        switch self {
        case .host: .asStored
        case .single(let uid, let gid): .single(uid: uid, gid: gid)
        case .ranges(let ids): ids.ownership
        }
    }

    /// Lines of the id maps, "inside outside count".
    func maps(_ facts: HostFacts) -> (users: [String], groups: [String]) {
        switch self {
        case .host: ([], [])
        case .single(let uid, let gid): (["\(uid) \(facts.uid) 1"], ["\(gid) \(facts.gid) 1"])
        case .ranges(let ids): (SubordinateIDs.map(ids.users, caller: facts.uid), SubordinateIDs.map(ids.groups, caller: facts.gid))
        }
    }
}

extension SubordinateIDs {
    /// Whose the files of an image appear to be where these ids exist.
    var ownership: Ownership { .within(users: Self.count(users), groups: Self.count(groups)) }
}
