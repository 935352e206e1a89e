import CLinux
import Glibc
import Linux

/// A private network of a user's containers: the side of a container that takes part in it.
///
/// Each container has a TAP interface in its own network namespace; a ``GroupSwitch`` carries frames between them. No right
/// on the host is needed for it, and nothing of the host's networks is touched or reachable.
final class GroupNetwork: Sendable {
    /// The interface's name in the container.
    static let interface = "group0"
    /// Bytes of a packet. Large ones cost the switch as much as small ones.
    static let mtu: CInt = 65520
    /// Bytes of a name in the first message.
    static let nameSize = 128

    let name: String
    /// The container's, in the host's byte order.
    let address: UInt32
    /// As long as the supervisor has it open, the container is in the group.
    private let socket: SharedDescriptor

    private init(_ name: String, _ address: UInt32, _ socket: consuming OwnedDescriptor) {
        self.name = name
        self.address = address
        self.socket = SharedDescriptor(socket)
    }

    // MARK: Addresses

    /// Of a group's first 24 bits: of the range for carriers' own networks (RFC 6598), in which few hosts have others.
    static func network(of group: String) -> UInt32 {
        let third = group.utf8.reduce(UInt32(0x811c_9dc5)) { ($0 ^ UInt32($1)) &* 0x0100_0193 } & 0xff
        return 100 << 24 | 127 << 16 | third << 8
    }

    /// A hardware address, locally administered.
    static func hardware(_ address: UInt32) -> [UInt8] { [2, 0x73, 0x67, 0, 0, UInt8(truncatingIfNeeded: address)] }

    static func text(_ address: UInt32) -> String {
        [24, 16, 8, 0].map { String(address >> UInt32($0) & 0xff) }.joined(separator: ".")
    }

    var addressText: String { Self.text(address) }

    // MARK: Joining

    /// Where the group's switch listens; nil where this user can have no directory for it.
    private static func path(_ group: String) -> String? {
        RuntimeFolder.prepare().map { "\($0)/group-\(KeeperSocket.name(for: group))" }
    }

    /// The file with the names of the group's containers, hosts(5).
    static func hosts(_ group: String) -> String? { path(group).map { $0 + GroupSwitch.hostsEnding } }

    /// Makes a container one of the group. The host's name spaces must not have been left.
    /// - Parameter member: the name that the others reach it by; empty for none.
    static func join(_ group: String, as member: String) throws(RuntimeError) -> GroupNetwork {
        guard access("/dev/net/tun", R_OK | W_OK) == 0 else {
            throw .badOption(
                "--group: /dev/net/tun cannot be opened (\(SystemError.last("").reason)); an administrator can permit it")
        }
        guard let path = path(group) else {
            throw .badOption("--group: there is no directory for sockets that belongs to this user; set XDG_RUNTIME_DIR to one")
        }
        var message = Array(member.utf8.prefix(nameSize))
        message += [UInt8](repeating: 0, count: nameSize - message.count)
        for _ in 0..<10 {
            let connected = KeeperSocket.connect(path) { listening in
                try KeeperProcess.start { GroupSwitch(group: group, path: path).keep(listening) }
            }
            guard let connected else {
                throw .badOption("--group \(group): the process that connects its containers could not be started, or reached at \(path)")
            }
            _ = clinux_set_receive_timeout(connected.rawValue, 10_000)
            if (try? Files.writeAll(message, to: connected.rawValue, name: path)) != nil {
                var answer = UInt8(0)
                let count = retryingOnInterrupt { read(connected.rawValue, &answer, 1) }
                if count < 0 && errno == EAGAIN { break }
                if count == 1 {
                    guard answer != 0 else { throw .badOption("--group \(group) has as many containers as it can have") }
                    return GroupNetwork(group, network(of: group) | UInt32(answer), connected)
                }
            }
            // It was about to end, or was killed, when it was found: another one is started.
            usleep(50_000)
        }
        throw .badOption("--group \(group): the process that connects its containers does not answer")
    }

    // MARK: The container's side

    /// Makes the interface in the network namespace that has been entered.
    func attach() throws(RuntimeError) {
        let raw = clinux_tap(Self.interface, Self.hardware(address), address, 0xffff_ff00, Self.mtu)
        guard raw >= 0 else { throw .step("--group \(name): making the network interface", SystemError.last("/dev/net/tun"), hint: "") }
        let tap = OwnedDescriptor(raw)
        guard clinux_send_descriptors(socket.rawValue, [tap.rawValue], 1) == 0 else {
            throw .step("--group \(name): connecting the network interface", SystemError.last("send"), hint: "")
        }
    }
}
