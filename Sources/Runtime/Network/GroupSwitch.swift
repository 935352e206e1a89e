import CLinux
import Glibc
import Linux

/// The process that carries Ethernet frames between the containers of a group, and tells them each other's names. The first
/// container starts it; it leaves with the last one.
struct GroupSwitch {
    static let hostsEnding = ".hosts"

    let group: String
    /// Of its socket.
    let path: String

    private struct Member {
        /// Tells when the container has ended.
        let socket: CInt
        /// The last byte of its addresses.
        let number: UInt8
        let name: String
        /// The container's interface; -1 until there is one.
        var tap: CInt = -1
    }

    /// Addresses: 0 and 255 are the network's own, 1 is left for a gateway.
    private static let numbers: ClosedRange<UInt8> = 2...254
    /// Of a frame's largest size: a packet, two addresses and a type.
    private static let frameSize = Int(GroupNetwork.mtu) + 14
    /// Frames that are taken from a container before it is the others' turn.
    private static let burst = 32

    func keep(_ listening: CInt) -> Never {
        KeeperProcess.begin("singularity-net", for: group)
        let place = KeeperSocket.Place(path, others: [String(path.split(separator: "/").last ?? "") + Self.hostsEnding])
        let hosts = open(path + Self.hostsEnding, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o644)
        Process.closeDescriptors(except: place.descriptors.union([listening, hosts]))
        // It reads what containers send: it keeps no right beyond its descriptors.
        try? Process.dropCapabilities()
        guard hosts >= 0, chdir("/") == 0, (try? Process.forbidNewPrivileges()) != nil else {
            place.clear()
            _exit(1)
        }
        Process.forbidInspection()
        _ = fcntl(listening, F_SETFL, O_NONBLOCK)
        var members: [Member] = []
        var isNamed = true
        let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.frameSize, alignment: 16)
        write(members, to: hosts)
        while true {
            var watched = [pollfd(fd: listening, events: Int16(POLLIN), revents: 0)]
            for member in members {
                watched.append(pollfd(fd: member.socket, events: Int16(POLLIN), revents: 0))
                watched.append(pollfd(fd: member.tap, events: Int16(POLLIN), revents: 0))
            }
            // The first container is on its way when this process starts.
            let count = poll(&watched, nfds_t(watched.count), members.isEmpty ? (isNamed ? Self.patience : 0) : -1)
            if count < 0 { continue }
            if count == 0 {
                // Who has connected in this moment is served still.
                if !isNamed { _exit(0) }
                place.clear()
                isNamed = false
                continue
            }
            let before = members.count
            for index in members.indices.reversed() {
                if watched[2 + 2 * index].revents != 0 { carry(from: index, &members, frame) }
                if watched[1 + 2 * index].revents != 0, !hear(&members[index]) {
                    close(members[index].socket)
                    if members[index].tap >= 0 { close(members[index].tap) }
                    members.remove(at: index)
                }
            }
            if watched[0].revents != 0, let member = welcome(listening, members) { members.append(member) }
            if members.count != before || watched[0].revents != 0 { write(members, to: hosts) }
            // An empty group goes at once; a new one waits for its first container.
            if members.isEmpty, before > 0, isNamed {
                place.clear()
                isNamed = false
            }
        }
    }

    /// Milliseconds in which the first container must have come.
    private static let patience: CInt = 10_000

    /// - Returns: a container that wants to take part.
    private func welcome(_ listening: CInt, _ members: [Member]) -> Member? {
        guard let socket = KeeperSocket.accept(listening) else { return nil }
        let raw = socket.rawValue
        var message = [UInt8](repeating: 0, count: GroupNetwork.nameSize)
        guard recv(raw, &message, message.count, CInt(MSG_WAITALL)) == message.count else { return nil }
        let name = String(decoding: message.prefix { $0 != 0 }, as: UTF8.self)
        let taken = Set(members.map(\.number))
        var number = Self.numbers.first { !taken.contains($0) } ?? 0
        // A name is a line's part in a file that others believe.
        if !name.isEmpty && !InstanceStore.isName(name) { number = 0 }
        guard send(raw, &number, 1, CInt(MSG_NOSIGNAL)) == 1, number != 0 else { return nil }
        return Member(socket: socket.release(), number: number, name: name)
    }

    /// Takes a container's interface, the one thing that it may send.
    /// - Returns: false where it has ended, or says something else.
    private func hear(_ member: inout Member) -> Bool {
        var received: [CInt] = [-1]
        guard clinux_receive_descriptors(member.socket, &received, 1) == 1 else { return false }
        guard member.tap < 0 else {
            close(received[0])
            return false
        }
        _ = fcntl(received[0], F_SETFL, O_RDWR | O_NONBLOCK)
        member.tap = received[0]
        return true
    }

    /// Carries the frames that a container has sent: each to the one that it is for, or to all. What they do not take is
    /// lost, as on any Ethernet. A frame that says to be from somebody else is not carried.
    private func carry(from index: Int, _ members: inout [Member], _ frame: UnsafeMutableRawBufferPointer) {
        let sender = members[index]
        let prefix = GroupNetwork.hardware(0).dropLast()
        for _ in 0..<Self.burst {
            let count = read(sender.tap, frame.baseAddress, frame.count)
            if count < 0, errno == EAGAIN || errno == EINTR { return }
            guard count > 0 else {
                // The network namespace is gone; the container will follow.
                close(sender.tap)
                members[index].tap = -1
                return
            }
            guard count >= 14, frame[6..<11].elementsEqual(prefix), frame[11] == sender.number else { continue }
            let isForMany = frame[0] & 1 == 1
            guard isForMany || frame[0..<5].elementsEqual(prefix) else { continue }
            for member in members where member.tap >= 0 && member.number != sender.number && (isForMany || member.number == frame[5]) {
                _ = Glibc.write(member.tap, frame.baseAddress, count)
            }
        }
    }

    /// Writes the names of the containers into the file that all of them have as /etc/hosts, which stays the same file.
    private func write(_ members: [Member], to hosts: CInt) {
        var text = OwnHosts.text
        for member in members where !member.name.isEmpty {
            text += "\(GroupNetwork.text(GroupNetwork.network(of: group) | UInt32(member.number))) \(member.name)\n"
        }
        let bytes = Array(text.utf8)
        _ = bytes.withUnsafeBytes { pwrite(hosts, $0.baseAddress, $0.count, 0) }
        ftruncate(hosts, off_t(bytes.count))
    }
}

/// The names that every host has, hosts(5).
enum OwnHosts {
    static let text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
}
