import Foundation
import Testing

/// Networks of their own.
@Suite(.enabled(if: Site.isPrepared && Site.mayFUSE, "needs scripts/test.sh and /dev/fuse"), .serialized)
struct NetworkTests {
    static func has(_ program: String) -> Bool { FileManager.default.isExecutableFile(atPath: program) }
    private static let mayTun = access("/dev/net/tun", R_OK | W_OK) == 0
    private static let hasPlugins = Site.isRoot && has("/usr/lib/cni/bridge") && has("/usr/lib/cni/portmap")

    /// A server in a container that is asked from outside.
    private func serve(_ options: [String], port: Int, as identity: Run.Identity) throws {
        // Perl's own modules are all that the image has.
        let script =
            "$s = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1); while ($c = $s->accept) { print $c qq(from the container\\n); close $c }"
        let live = try Run.start(
            Site.program,
            ["exec"] + options + [
                "--network-args", "portmap=\(port):8000/tcp", Site.debian.get(), "perl", "-MIO::Socket::INET", "-e", script,
            ], as: identity)
        defer {
            kill(live.identifier, SIGKILL)
            _ = live.finish(timeout: 5)
        }
        let answer = Wait.until(10) {
            let ask = "import socket; s = socket.create_connection(('127.0.0.1', \(port)), 2); print(s.recv(100).decode(), end='')"
            return (try? Run.program("/usr/bin/python3", ["-c", ask]).output) == "from the container\n"
        }
        #expect(answer)
    }

    @Test(.enabled(if: mayTun && has("/usr/bin/slirp4netns"), "needs slirp4netns and /dev/net/tun")) func anOrdinaryUserIsConnectedBySlirp()
        throws
    {
        let image = try Site.debian.get()
        let routes = try Run.program(
            Site.program, ["exec", "--net", "--network", "slirp4netns", image, "cat", "/proc/net/route"], as: .ordinaryUser)
        #expect(routes.output.contains("tap0\t00000000"), "\(routes)")
        try serve(["--net", "--network", "slirp4netns"], port: Int.random(in: 21000...29000), as: .ordinaryUser)
    }

    @Test(.enabled(if: mayTun && has("/usr/bin/pasta"), "needs pasta and /dev/net/tun")) func anOrdinaryUserIsConnectedByPasta() throws {
        let image = try Site.debian.get()
        let routes = try Run.program(Site.program, ["exec", "--network", "pasta", image, "cat", "/proc/net/route"], as: .ordinaryUser)
        #expect(routes.output.split(separator: "\n").count > 1, "\(routes)")
    }

    @Test(.enabled(if: hasPlugins, "needs root and CNI plugins")) func rootIsConnectedByPlugins() throws {
        let scratch = try Scratch()
        // A network of its own, which leaves the host's other networks alone.
        let list = """
            {"cniVersion": "0.4.0", "name": "testnet", "plugins": [
              {"type": "bridge", "bridge": "sgtest0", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.88.77.0/24", "dataDir": "\(scratch.path)/ipam"}}]}
            """
        try scratch.write("net.conflist", Array(list.utf8))
        let configuration = try scratch.write("singularity.conf", Array("cni configuration path = \(scratch.path)\n".utf8))
        defer { _ = try? Run.program("/bin/sh", ["-c", "ip link del sgtest0 2>/dev/null || true"]) }
        let result = try Run.program(
            Site.program,
            [
                "--config", configuration, "exec", "--net", "--network", "testnet", Site.debian.get(), "sh", "-c",
                "cat /proc/net/fib_trie; ls /sys/class/net",
            ])
        #expect(result.output.contains("10.88.77.") && result.output.contains("eth0"), "\(result)")
        // The address is given back.
        let left = (try? FileManager.default.contentsOfDirectory(atPath: scratch.file("ipam/testnet"))) ?? []
        #expect(!left.contains { $0.hasPrefix("10.") }, "\(left)")
        for bad in ["../testnet", "no-such-network"] {
            let refused = try Run.program(Site.program, ["--config", configuration, "exec", "--network", bad, Site.debian.get(), "true"])
            #expect(refused.status == 255 && refused.error.contains("there is no such network"), "\(refused)")
        }
    }

    @Test func aNamespaceThatIsThereIsJoined() throws {
        let image = try Site.debian.get()
        let own = try Run.program("/bin/readlink", ["/proc/self/ns/net"]).output
        if Site.isRoot {
            let result = try Run.singularity("exec", "--netns-path", "/proc/self/ns/net", image, "readlink", "/proc/self/ns/net")
            #expect(result.output == own, "\(result)")
        }
        #expect(try Run.singularity("exec", "--netns-path", "/no/such", image, "true").status == 255)
        #expect(
            try Run.singularity("exec", "--net", "--network", "none", "--network-args", "portmap=1:1", image, "true").error.contains(
                "has no ports"))
        #expect(try Run.singularity("exec", "--net", "--network-args", "portmap=x", image, "true").error.contains("portmap=x"))
    }
}
