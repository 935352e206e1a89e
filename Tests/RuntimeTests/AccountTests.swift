import Runtime
import TestSupport
import Testing

/// What C libraries ask of the name service, and what they are told.
@Suite struct AccountTests {
    private func bytes(_ numbers: [Int32]) -> [UInt8] { numbers.flatMap { withUnsafeBytes(of: $0) { Array($0) } } }

    @Test func questionsAreUnderstood() {
        #expect(AccountQuestion.header(bytes([2, 1, 5])).map { $0.kind == 1 && $0.keySize == 5 } == true)
        #expect(AccountQuestion(kind: 0, key: Array("ada\0".utf8)) == .userNamed("ada"))
        #expect(AccountQuestion(kind: 1, key: Array("5001\0".utf8)) == .user(5001))
        #expect(AccountQuestion(kind: 2, key: Array("staff\0".utf8)) == .groupNamed("staff"))
        #expect(AccountQuestion(kind: 3, key: Array("4294967294\0".utf8)) == .group(4_294_967_294))
        #expect(AccountQuestion(kind: 15, key: Array("ada\0".utf8)) == .groupsOf("ada"))
    }

    @Test func whatIsNoQuestionIsRefused() {
        // Another version, no key, keys of sizes that nobody sends, half a header.
        for numbers: [Int32] in [[1, 1, 5], [2, 1, 0], [2, 1, -1], [2, 1, 1025], [2, 1, .max], [2, 1], []] {
            #expect(AccountQuestion.header(bytes(numbers)) == nil, "\(numbers)")
        }
        // Host names, shared memory, the daemon's end; keys that are no text or no number.
        for kind: Int32 in [4, 8, 11, 12, 14, 16, -1, .max] { #expect(AccountQuestion(kind: kind, key: Array("a\0".utf8)) == nil) }
        for key in ["", "ada", "a\0b\0", "\0\0"] { #expect(AccountQuestion(kind: 0, key: Array(key.utf8)) == nil, "\(key)") }
        for key in ["\0", "x\0", "-1\0", "4294967296\0"] { #expect(AccountQuestion(kind: 1, key: Array(key.utf8)) == nil, "\(key)") }
    }

    @Test func answersHaveTheProtocolsForm() {
        let user = AccountLine("ada:*:5001:6000:Ada L:/home/ada:/bin/sh")
        #expect(
            AccountAnswer(user: user).bytes == bytes([2, 1, 4, 2, 5001, 6000, 6, 10, 8]) + Array("ada\0*\0Ada L\0/home/ada\0/bin/sh\0".utf8)
        )
        #expect(AccountAnswer(user: nil).bytes == bytes([2, 0, 0, 0, 0, 0, 0, 0, 0]))
        let group = GroupLine("staff:x:50:ada,grace")
        #expect(AccountAnswer(group: group).bytes == bytes([2, 1, 6, 2, 50, 2, 4, 6]) + Array("staff\0x\0ada\0grace\0".utf8))
        #expect(AccountAnswer(group: nil).bytes == bytes([2, 0, 0, 0, 0, 0]))
        #expect(AccountAnswer(groups: [50, .max]).bytes == bytes([2, 1, 2, 50, -1]))
        #expect(AccountAnswer(unknownTo: .user(1)).bytes == bytes([2, -1, 0, 0, 0, 0, 0, 0, 0]))
        #expect(AccountAnswer(unknownTo: .group(1)).bytes == bytes([2, -1, 0, 0, 0, 0]))
        #expect(AccountAnswer(unknownTo: .groupsOf("a")).bytes == bytes([2, -1, 0]))
    }

    @Test func linesOfFilesAreReadAsTheyAre() {
        #expect(GroupLine("empty:x:7:")?.members == [])
        for line: Substring in ["", "+", "ada:x:5001", "ada:x:id:1:::", ":x:1:1:::", "a:x:-1:1:::"] { #expect(AccountLine(line) == nil) }
        for line: Substring in ["", "+:::", "g:x:", ":x:1:"] { #expect(GroupLine(line) == nil) }
    }

    @Test func aDirectoryOfAccountsIsSeenInTheConfiguration() {
        for text in ["passwd: files sss", "group:\tcompat winbind", "passwd: files [NOTFOUND=return] ldap", "#\npasswd:ldap\npasswd: ldap"]
        {
            #expect(HostAccounts.areElsewhere(nameServiceSwitch: text), "\(text)")
        }
        for text in ["", "passwd: files systemd", "passwd: compat # ldap", "hosts: files ldap", "group: files [SUCCESS=merge] systemd"] {
            #expect(!HostAccounts.areElsewhere(nameServiceSwitch: text), "\(text)")
        }
    }
}
