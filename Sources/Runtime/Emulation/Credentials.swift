import Glibc

/// Whom a process takes itself for (credentials(7)).
package struct Credentials: Hashable {
    package var real: UInt32 = 0
    package var effective: UInt32 = 0
    package var saved: UInt32 = 0
    package var fileSystem: UInt32 = 0
    package var realGroup: UInt32 = 0
    package var effectiveGroup: UInt32 = 0
    package var savedGroup: UInt32 = 0
    package var fileSystemGroup: UInt32 = 0
    package var groups: [UInt32] = [0]

    package init() {}

    package var isRoot: Bool { effective == 0 }

    /// An id that means "leave it".
    package static let unchanged = UInt32.max

    private func mayBecome(_ user: UInt32) -> Bool { isRoot || [real, effective, saved].contains(user) }
    private func mayBecome(group: UInt32) -> Bool { isRoot || [realGroup, effectiveGroup, savedGroup].contains(group) }

    // MARK: Changes, each returning 0 or an errno

    package mutating func setUser(_ user: UInt32) -> CInt {
        guard user != Self.unchanged else { return EINVAL }
        if isRoot { return setUsers(user, user, user) }
        guard user == real || user == saved else { return EPERM }
        return setUsers(Self.unchanged, user, Self.unchanged)
    }

    package mutating func setGroup(_ group: UInt32) -> CInt {
        guard group != Self.unchanged else { return EINVAL }
        if isRoot { return setGroups(group, group, group) }
        guard group == realGroup || group == savedGroup else { return EPERM }
        return setGroups(Self.unchanged, group, Self.unchanged)
    }

    package mutating func setUsers(_ newReal: UInt32, _ newEffective: UInt32, _ newSaved: UInt32) -> CInt {
        for user in [newReal, newEffective, newSaved] where user != Self.unchanged && !mayBecome(user) { return EPERM }
        if newReal != Self.unchanged { real = newReal }
        if newEffective != Self.unchanged { effective = newEffective }
        if newSaved != Self.unchanged { saved = newSaved }
        fileSystem = effective
        return 0
    }

    package mutating func setGroups(_ newReal: UInt32, _ newEffective: UInt32, _ newSaved: UInt32) -> CInt {
        for group in [newReal, newEffective, newSaved] where group != Self.unchanged && !mayBecome(group: group) { return EPERM }
        if newReal != Self.unchanged { realGroup = newReal }
        if newEffective != Self.unchanged { effectiveGroup = newEffective }
        if newSaved != Self.unchanged { savedGroup = newSaved }
        fileSystemGroup = effectiveGroup
        return 0
    }

    /// setreuid(2): the saved id follows the effective one where the real one is set, or the effective one to another.
    package mutating func setUsers(_ newReal: UInt32, _ newEffective: UInt32) -> CInt {
        let old = real
        let status = setUsers(newReal, newEffective, Self.unchanged)
        if status == 0, newReal != Self.unchanged || (newEffective != Self.unchanged && newEffective != old) { saved = effective }
        return status
    }

    package mutating func setGroups(_ newReal: UInt32, _ newEffective: UInt32) -> CInt {
        let old = realGroup
        let status = setGroups(newReal, newEffective, Self.unchanged)
        if status == 0, newReal != Self.unchanged || (newEffective != Self.unchanged && newEffective != old) {
            savedGroup = effectiveGroup
        }
        return status
    }
}

/// The credentials of all processes of a section. A process carries the number of its own, which it inherits and keeps
/// as the kernel's credentials are inherited and kept.
package struct CredentialTable {
    /// Number 0 is root's.
    private var known: [Credentials] = [Credentials()]
    private var numbers: [Credentials: UInt32] = [Credentials(): 0]

    package init() {}

    package subscript(_ number: UInt32) -> Credentials { Int(number) < known.count ? known[Int(number)] : known[0] }

    package mutating func number(of credentials: Credentials) -> UInt32 {
        if let number = numbers[credentials] { return number }
        let number = UInt32(known.count)
        known.append(credentials)
        numbers[credentials] = number
        return number
    }
}
