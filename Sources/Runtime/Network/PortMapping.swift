import CLinux
import Glibc
import Linux

/// A port of the host that leads to one of a container.
public struct PortMapping: Sendable, Equatable {
    /// Of the host; nil for all of its addresses.
    package var address: String?
    package var host: UInt16
    package var container: UInt16
    package var protocolName: String

    /// `portmap=HOST:CONTAINER/PROTOCOL` among the words of --network-args.
    package static func parse(_ arguments: [String]) throws(RuntimeError) -> [PortMapping] {
        var out: [PortMapping] = []
        for argument in arguments where argument.hasPrefix("portmap=") {
            guard let mapping = PortMapping(argument.dropFirst("portmap=".count), address: nil) else {
                throw .badOption("--network-args \(argument): give portmap=HOSTPORT:CONTAINERPORT/tcp or /udp")
            }
            out.append(mapping)
        }
        return out
    }

    /// `[ADDRESS:]HOSTPORT:CONTAINERPORT[/PROTOCOL]` of --publish.
    public init(published text: String) throws(RuntimeError) {
        var rest = text[...]
        var address: String?
        let colons = text.indices.filter { text[$0] == ":" }
        if colons.count > 1, let colon = colons.dropLast().last {
            var given = text[..<colon]
            if given.hasPrefix("["), given.hasSuffix("]") { given = given.dropFirst().dropLast() }
            address = String(given)
            rest = text[text.index(after: colon)...]
        }
        var four = in_addr()
        guard let mapping = PortMapping(rest, address: address), address.map({ inet_pton(AF_INET, $0, &four) == 1 }) ?? true else {
            throw .badOption(
                "--publish \(text): give HOSTPORT:CONTAINERPORT, or ADDRESS:HOSTPORT:CONTAINERPORT with an IPv4 address of the host, and /udp for UDP"
            )
        }
        self = mapping
    }

    private init?(_ text: Substring, address: String?) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        let ports = parts[0].split(separator: ":", omittingEmptySubsequences: false)
        let name = parts.count > 1 ? String(parts[1]) : "tcp"
        guard parts.count <= 2, (1...2).contains(ports.count), ["tcp", "udp"].contains(name), let host = UInt16(ports[0]), host > 0,
            let container = UInt16(ports.last ?? ""), container > 0
        else { return nil }
        (self.address, self.host, self.container, protocolName) = (address, host, container, name)
    }

    /// For pasta's options -t and -u.
    var forPasta: String { (address.map { $0 + "/" } ?? "") + "\(host):\(container)" }

    /// For CNI's capability portMappings.
    var forPlugins: [String: Any] {
        var object: [String: Any] = ["hostPort": Int(host), "containerPort": Int(container), "protocol": protocolName]
        if let address { object["hostIP"] = address }
        return object
    }

    /// Asks slirp4netns to pass connections on (its documentation, "API socket").
    func open(through path: String) throws {
        let socket = OwnedDescriptor(clinux_local_socket(path, 0))
        guard socket.rawValue >= 0 else { throw SystemError.last("reach slirp4netns") }
        let request =
            "{\"execute\":\"add_hostfwd\",\"arguments\":{\"proto\":\"\(protocolName)\",\"host_addr\":\"\(address ?? "0.0.0.0")\",\"host_port\":\(host),\"guest_port\":\(container)}}"
        try Files.writeAll(Array(request.utf8), to: socket.rawValue, name: path)
        shutdown(socket.rawValue, CInt(SHUT_WR))
        let answer = String(decoding: try Files.read(socket, name: path, limit: 1 << 16), as: UTF8.self)
        guard !answer.contains("\"error\"") else {
            throw RuntimeError.badOption("the port \(host) could not be mapped to \(container): slirp4netns says \(answer)")
        }
    }
}
