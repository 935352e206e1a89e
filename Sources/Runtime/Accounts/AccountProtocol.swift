import Glibc

/// A question of the name service's protocol, in which the C library asks a caching daemon: numbers in the processor's order.
/// (glibc's nscd and musl speak the same, version 2.)
package enum AccountQuestion: Equatable {
    case userNamed(String)
    case user(UInt32)
    case groupNamed(String)
    case group(UInt32)
    /// The groups that a user is in, by the user's name.
    case groupsOf(String)

    /// Bytes before the key: version, kind, bytes of the key.
    package static let headerSize = 12
    /// Bytes of the longest key; the C library has no longer ones.
    package static let largestKey = 1024
    static let version: Int32 = 2

    /// What a header says.
    /// - Returns: the kind and the bytes of the key; nil for another version, and for a key that nobody sends.
    package static func header(_ bytes: [UInt8]) -> (kind: Int32, keySize: Int)? {
        guard bytes.count == headerSize else { return nil }
        let fields = bytes.withUnsafeBytes { raw in (0..<3).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self) } }
        guard fields[0] == version, (1...Int32(largestKey)).contains(fields[2]) else { return nil }
        return (fields[1], Int(fields[2]))
    }

    /// - Returns: nil for what is asked of other things than accounts, and for a key that makes no sense.
    package init?(kind: Int32, key: [UInt8]) {
        guard key.last == 0, !key.dropLast().contains(0) else { return nil }
        let text = String(decoding: key.dropLast(), as: UTF8.self)
        switch kind {
        case 0: self = .userNamed(text)
        case 1:
            guard let id = UInt32(text) else { return nil }
            self = .user(id)
        case 2: self = .groupNamed(text)
        case 3:
            guard let id = UInt32(text) else { return nil }
            self = .group(id)
        case 15: self = .groupsOf(text)
        default: return nil
        }
    }
}

/// An answer of the same protocol.
package struct AccountAnswer {
    package private(set) var bytes: [UInt8] = []

    private init(_ numbers: [Int32]) { for number in numbers { append(number) } }

    private mutating func append(_ number: Int32) { withUnsafeBytes(of: number) { bytes += $0 } }
    private mutating func append(_ text: String) {
        bytes += text.utf8
        bytes.append(0)
    }

    private static func size(_ text: String) -> Int32 { Int32(truncatingIfNeeded: text.utf8.count + 1) }
    private static func number(_ id: UInt32) -> Int32 { Int32(bitPattern: id) }

    /// nil: there is no such user.
    package init(user: AccountLine?) {
        guard let user else {
            self.init([AccountQuestion.version, 0, 0, 0, 0, 0, 0, 0, 0])
            return
        }
        self.init([
            AccountQuestion.version, 1, Self.size(user.name), Self.size(user.password), Self.number(user.uid), Self.number(user.gid),
            Self.size(user.comment), Self.size(user.home), Self.size(user.shell),
        ])
        for text in [user.name, user.password, user.comment, user.home, user.shell] { append(text) }
    }

    /// nil: there is no such group.
    package init(group: GroupLine?) {
        guard let group else {
            self.init([AccountQuestion.version, 0, 0, 0, 0, 0])
            return
        }
        self.init([
            AccountQuestion.version, 1, Self.size(group.name), Self.size(group.password), Self.number(group.gid),
            Int32(truncatingIfNeeded: group.members.count),
        ])
        for member in group.members { append(Self.size(member)) }
        for text in [group.name, group.password] + group.members { append(text) }
    }

    package init(groups: [UInt32]) {
        self.init([AccountQuestion.version, 1, Int32(truncatingIfNeeded: groups.count)])
        for id in groups { append(Self.number(id)) }
    }

    /// "This database is not kept here": the C library looks into its own files then.
    package init(unknownTo question: AccountQuestion) {
        let fields =
            switch question {
            case .userNamed, .user: 9
            case .groupNamed, .group: 6
            case .groupsOf: 3
            }
        self.init([AccountQuestion.version, -1] + [Int32](repeating: 0, count: fields - 2))
    }
}
