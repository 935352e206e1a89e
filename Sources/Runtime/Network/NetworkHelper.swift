import CLinux
import Glibc
import Linux
import Messages

/// What connects a container's network to the host's: CNI plugins for root, slirp4netns or pasta for others.
///
/// The container tells when its network namespace is there and waits until it is connected; the supervisor has it
/// connected in between.
final class NetworkHelper: Sendable {
    private enum Means: Sendable {
        /// A program that waits for the number of the container's process; it lives outside of all new namespaces.
        case program(Outside)
        case plugins(CNINetworks)
    }

    /// A process that was forked before any namespace was entered, and becomes the program.
    private struct Outside: Sendable {
        var process: pid_t
        /// Takes the process number.
        var number: SharedDescriptor
        /// Gives a byte when the network is there.
        var ready: SharedDescriptor
        /// As long as it is open, the program runs.
        var life: SharedDescriptor
        /// What slirp4netns is told when it runs, and its socket; nil where there is nothing to tell.
        var forwarding: (socket: String, ports: [PortMapping])?
    }

    private let means: Means
    /// Ends of a socket pair: the container's and the supervisor's.
    private let inner: SharedDescriptor
    private let outer: SharedDescriptor

    private init(_ means: Means) throws(SystemError) {
        self.means = means
        var sockets: [CInt] = [0, 0]
        guard clinux_socket_pair(&sockets) == 0 else { throw .last("socketpair") }
        inner = SharedDescriptor(OwnedDescriptor(sockets[0]))
        outer = SharedDescriptor(OwnedDescriptor(sockets[1]))
    }

    /// Gets ready what will connect the network; nil where nothing has to be.
    static func prepare(_ options: RunOptions, _ namespaces: Namespaces, _ log: Log) throws -> NetworkHelper? {
        guard case .connected(let names, let arguments) = options.network else { return nil }
        let ports = try PortMapping.parse(arguments) + options.ports
        if !namespaces.contains(.user) {
            return try NetworkHelper(.plugins(try CNINetworks(names, arguments, ports, options.configuration)))
        }
        if let name = names.first(where: { !["bridge", "fakeroot", "slirp4netns", "pasta"].contains($0) }) {
            throw RuntimeError.badOption(
                "--network \(name): networks of CNI plugins need root; others can have none, slirp4netns or pasta")
        }
        return try NetworkHelper(.program(try outside(names.first ?? "bridge", ports)))
    }

    /// Forks the process that becomes slirp4netns or pasta.
    private static func outside(_ wanted: String, _ ports: [PortMapping]) throws -> Outside {
        let slirp = wanted == "pasta" ? nil : SystemProgram.find("slirp4netns")
        let pasta = wanted == "slirp4netns" ? nil : SystemProgram.find("pasta")
        guard slirp != nil || pasta != nil else {
            throw RuntimeError.badOption(
                "--net: a connected network needs the program slirp4netns or pasta, which this host lacks (Debian's packages slirp4netns and passt); --network none needs none"
            )
        }
        guard access("/dev/net/tun", R_OK | W_OK) == 0 else {
            throw RuntimeError.badOption(
                "--net: /dev/net/tun cannot be opened (\(SystemError.last("").reason)); an administrator can permit it, --network none works without"
            )
        }
        var number: [CInt] = [0, 0]
        var ready: [CInt] = [0, 0]
        var life: [CInt] = [0, 0]
        guard clinux_pipe(&number) == 0, clinux_pipe(&ready) == 0, clinux_pipe(&life) == 0 else { throw SystemError.last("pipe") }
        let socket = ports.isEmpty ? nil : RuntimeFolder.prepare().map { "\($0)/net-\(getpid())" }
        let process = try Process.fork {
            close(number[1])
            close(life[1])
            close(ready[0])
            setsid()
            var pid: pid_t = 0
            guard retryingOnInterrupt({ read(number[0], &pid, MemoryLayout<pid_t>.size) }) == MemoryLayout<pid_t>.size else { _exit(0) }
            let null = open("/dev/null", O_RDWR)
            dup2(null, 0)
            dup2(null, 1)
            if let slirp {
                dup2(null, 2)
                for descriptor in [ready[1], life[0]] { _ = fcntl(descriptor, F_SETFD, 0) }
                var words = [
                    slirp, "--configure", "--mtu=65520", "--disable-host-loopback", "--ready-fd=\(ready[1])", "--exit-fd=\(life[0])",
                ]
                if let socket { words.append("--api-socket=\(socket)") }
                become(words + ["--userns-path=/proc/\(pid)/ns/user", "--netns-type=path", "/proc/\(pid)/ns/net", "tap0"])
            }
            runPasta(pasta ?? "", pid, ports, ready[1], life[0])
        }
        close(number[0])
        close(ready[1])
        close(life[0])
        return Outside(
            process: process, number: SharedDescriptor(OwnedDescriptor(number[1])), ready: SharedDescriptor(OwnedDescriptor(ready[0])),
            life: SharedDescriptor(OwnedDescriptor(life[1])), forwarding: slirp == nil ? nil : socket.map { ($0, ports) })
    }

    private static func become(_ words: [String]) -> Never {
        var argv = words.map { strdup($0) } + [nil]
        execv(words[0], &argv)
        _exit(127)
    }

    /// pasta goes to the background when the network is there; it is ended when the container has.
    private static func runPasta(_ program: String, _ pid: pid_t, _ ports: [PortMapping], _ ready: CInt, _ life: CInt) -> Never {
        var words = [program, "--config-net", "--foreground", "--quiet"]
        for kind in ["tcp", "udp"] {
            let list = ports.filter { $0.protocolName == kind }.map(\.forPasta).joined(separator: ",")
            words += [kind == "tcp" ? "-t" : "-u", list.isEmpty ? "none" : list]
        }
        words += ["-T", "none", "-U", "none", "--userns", "/proc/\(pid)/ns/user", "--netns", "/proc/\(pid)/ns/net"]
        guard
            let child = try? Process.fork({
                Process.dieWithParent()
                become(words)
            })
        else { _exit(1) }
        // An address on another interface than the loopback one says that it is connected.
        for _ in 0..<500 {
            if waitpid(child, nil, WNOHANG) == child { _exit(1) }
            let routes = (try? Files.readText("/proc/\(pid)/net/route")) ?? ""
            if routes.split(separator: "\n").count > 1 { break }
            usleep(10_000)
        }
        var byte: UInt8 = 1
        _ = write(ready, &byte, 1)
        close(ready)
        _ = retryingOnInterrupt { read(life, &byte, 1) }
        kill(child, SIGTERM)
        _exit(0)
    }

    // MARK: The container's side

    /// The network namespace has been entered: waits until it is connected.
    func connect() throws(RuntimeError) {
        var byte: UInt8 = 1
        guard write(inner.rawValue, &byte, 1) == 1 else { throw .step("connecting the network", SystemError.last("write"), hint: "") }
        guard retryingOnInterrupt({ read(inner.rawValue, &byte, 1) }) == 1, byte == 1 else { _exit(255) }
    }

    // MARK: The supervisor's side

    /// Connects the network of a process.
    func serve(_ pid: pid_t) throws {
        var byte: UInt8 = 0
        var watched = pollfd(fd: outer.rawValue, events: Int16(POLLIN), revents: 0)
        // A container that has failed says nothing; its end is noticed by who waits for it.
        for _ in 0..<600 {
            if retryingOnInterrupt({ poll(&watched, 1, 50) }) > 0 { break }
            if kill(pid, 0) != 0 || ProcessStart.time(of: pid) == nil { return }
        }
        guard retryingOnInterrupt({ read(outer.rawValue, &byte, 1) }) == 1 else { return }
        switch means {
        case .program(let outside): try start(outside, pid)
        case .plugins(let networks): try networks.add(pid)
        }
        byte = 1
        _ = write(outer.rawValue, &byte, 1)
    }

    private func start(_ outside: Outside, _ pid: pid_t) throws {
        var number = pid
        _ = write(outside.number.rawValue, &number, MemoryLayout<pid_t>.size)
        var byte: UInt8 = 0
        guard retryingOnInterrupt({ read(outside.ready.rawValue, &byte, 1) }) == 1 else {
            throw RuntimeError.badOption("the network could not be connected: slirp4netns or pasta has failed")
        }
        if let (socket, ports) = outside.forwarding {
            defer { unlink(socket) }
            for port in ports { try port.open(through: socket) }
        }
    }

    /// Disconnects it.
    func end() {
        switch means {
        case .program(let outside):
            kill(outside.process, SIGTERM)
            waitpid(outside.process, nil, 0)
        case .plugins(let networks): networks.remove()
        }
    }
}
