import Glibc
import Runtime
import Testing

/// Users that processes take themselves for, by the rules of credentials(7).
struct CredentialsTests {
    private let same = Credentials.unchanged

    @Test func rootBecomesAnybodyAndCannotComeBack() {
        var user = Credentials()
        #expect(user.setUser(8) == 0)
        #expect([user.real, user.effective, user.saved, user.fileSystem] == [8, 8, 8, 8])
        #expect(user.setUser(0) == EPERM && user.setUsers(0, 0, 0) == EPERM && user.setUsers(same, 0) == EPERM)
        #expect(user.setUser(8) == 0 && user.effective == 8)
    }

    @Test func theSavedIdLeadsBack() {
        var user = Credentials()
        #expect(user.setUsers(same, 8, same) == 0)
        #expect(user.effective == 8 && user.saved == 0 && !user.isRoot)
        #expect(user.setUsers(same, 9, same) == EPERM)
        #expect(user.setUser(0) == 0 && user.isRoot)
    }

    @Test func setreuidMovesTheSavedIdAlong() {
        var user = Credentials()
        #expect(user.setUsers(5, 6) == 0)
        #expect([user.real, user.effective, user.saved] == [5, 6, 6])
        #expect(user.setUsers(6, 5) == 0 && user.real == 6 && user.effective == 5)
    }

    @Test func groupsNeedRoot() {
        var user = Credentials()
        #expect(user.setGroups(7, 7, 7) == 0 && user.setUsers(8, 8, 8) == 0)
        #expect(user.setGroup(0) == EPERM && user.setGroups(same, 7) == 0)
        #expect([user.realGroup, user.effectiveGroup, user.savedGroup, user.fileSystemGroup] == [7, 7, 7, 7])
    }

    @Test func unchangedIsNoId() {
        var user = Credentials()
        #expect(user.setUser(same) == EINVAL && user.setGroup(same) == EINVAL)
        #expect(user.setUsers(same, same, same) == 0 && user == Credentials())
    }

    @Test func aTableGivesOneNumberToOneSetOfIds() {
        var table = CredentialTable()
        var user = Credentials()
        _ = user.setUsers(1, 2, 3)
        let number = table.number(of: user)
        #expect(number != 0 && table.number(of: user) == number && table[number] == user)
        #expect(table.number(of: Credentials()) == 0 && table[12345] == Credentials())
    }
}
