import Foundation
import Linux
import Runtime
import Testing

@Suite struct ConfigurationTests {
    @Test func directivesAreReadAsThePeersWriteThem() throws {
        var configuration = Configuration()
        #expect(configuration.has("mount home") && configuration.values("bind path") == ["/etc/localtime", "/etc/hosts"])
        let text = """
            # a comment
            mount home = no
              mount dev=minimal
            bind path = /etc/hosts
            bind path = /data:/mnt
            limit container owners = root, admin
            allow setuid = yes
            root default capabilities = full
            """
        try configuration.read(text, path: "x.conf")
        #expect(!configuration.has("mount home") && configuration["mount dev"] == "minimal")
        #expect(configuration.values("bind path") == ["/etc/hosts", "/data:/mnt"])
        #expect(configuration.values("limit container owners") == ["root", "admin"])
        // What is printed is read again as the same.
        var again = Configuration()
        try again.read(configuration.text, path: "x.conf")
        for directive in Configuration.directives {
            #expect(again.values(directive.name) == configuration.values(directive.name), "\(directive.name)")
        }
        var changed = Configuration()
        try changed.read(configuration.changedText, path: "x.conf")
        #expect(changed == configuration)
    }

    @Test(arguments: [
        ("mount home = maybe", "choose yes, no"), ("mount hoem = no", "there is no directive \"mount hoem\""),
        ("nonsense", "line 1: \"nonsense\""),
        ("sessiondir max size = big", "give a number"),
    ]) func mistakesAreNamed(_ line: String, _ text: String) {
        var configuration = Configuration()
        do {
            try configuration.read(line, path: "/etc/x.conf")
            Issue.record("\(line) was taken")
        } catch { #expect("\(error)".contains(text) && "\(error)".contains("/etc/x.conf"), "\(error)") }
    }
}

@Suite struct LimitFormTests {
    @Test func limitsAreWrittenInTheKernelsForm() throws {
        let folder = NSTemporaryDirectory() + "/limits-\(UInt32.random(in: 0 ... .max))"
        try Files.makeDirectories(folder)
        defer { Files.removeTree(folder) }
        for name in ["cpu.max", "cpu.weight", "memory.max", "memory.low", "memory.swap.max", "pids.max", "cpuset.cpus", "io.weight"] {
            try Files.replace(folder + "/" + name, with: [])
        }
        var limits = ResourceLimits()
        limits.cpus = 1.5
        limits.cpuShares = 1024
        limits.memory = 1 << 30
        limits.memoryReservation = 1 << 20
        limits.memorySwap = 3 << 30
        limits.processes = -1
        limits.cpusetCPUs = "0-1"
        limits.blockWeight = 50
        try ControlGroup.apply2(limits, folder)
        func text(_ name: String) throws -> String { try Files.readText(folder + "/" + name) }
        #expect(try text("cpu.max") == "150000 100000" && text("cpu.weight") == "39")
        #expect(try text("memory.max") == "\(1 << 30)" && text("memory.low") == "\(1 << 20)" && text("memory.swap.max") == "\(2 << 30)")
        #expect(try text("pids.max") == "max" && text("cpuset.cpus") == "0-1" && text("io.weight") == "default 500")
        limits.memorySwap = 1
        #expect(throws: RuntimeError.self) { try ControlGroup.apply2(limits, folder) }
        Files.removeTree(folder + "/pids.max")
        unlink(folder + "/pids.max")
        limits.memorySwap = nil
        #expect(throws: RuntimeError.self) { try ControlGroup.apply2(limits, folder) }
    }
}

@Suite struct RunFormTests {
    @Test func portMappingsAreRead() throws {
        #expect(
            try PortMapping.parse(["portmap=8080:80/tcp", "other=1", "portmap=53:53/udp", "portmap=99"]).map {
                "\($0.host):\($0.container)/\($0.protocolName)"
            } == ["8080:80/tcp", "53:53/udp", "99:99/tcp"])
        for bad in ["portmap=", "portmap=x:1", "portmap=1:2:3", "portmap=0:1", "portmap=1:70000", "portmap=1:1/icmp"] {
            #expect(throws: RuntimeError.self, "\(bad)") { try PortMapping.parse([bad]) }
        }
    }

    @Test func fuseMountsAreRead() throws {
        let spec = try FuseMountSpec("host:sshfs host:/data /mnt/data")
        #expect(!spec.runsInContainer && spec.command == ["sshfs", "host:/data"] && spec.mountPoint == "/mnt/data")
        for bad in ["sshfs /mnt", "nonsense:x /mnt", "host:x", "container:x relative"] {
            #expect(throws: RuntimeError.self, "\(bad)") { try FuseMountSpec(bad) }
        }
    }

    @Test func theLoadersListIsReadAndItsDamageNoticed() throws {
        let bytes = try Files.read("/etc/ld.so.cache")
        let cache = try #require(LibraryCache(bytes))
        #expect(cache.libraries.contains { $0.name == "libc.so.6" && $0.path.hasSuffix("/libc.so.6") })
        #expect(LibraryCache([]) == nil && LibraryCache(Array(bytes.prefix(40))) == nil)
        // Any cut and any changed byte is an answer or nothing, never a crash.
        for cut in stride(from: 0, to: min(bytes.count, 4000), by: 37) { _ = LibraryCache(Array(bytes.prefix(cut))) }
        for place in 0..<200 {
            var changed = bytes
            changed[place] ^= 0xff
            _ = LibraryCache(changed)
        }
    }

    @Test func namesOfInstancesAreChecked() {
        for good in ["web", "a.b_c-9"] { #expect(InstanceStore.isName(good)) }
        for bad in ["", ".", "..", "a/b", "a b", "ü", String(repeating: "x", count: 200)] { #expect(!InstanceStore.isName(bad), "\(bad)") }
    }

    @Test func bytesThatAreNotUTF8ComeBack() {
        for bytes: [UInt8] in [[], [0x61], [0xff], [0x61, 0xc3, 0x62], [0xc3, 0xbc], [0xf0, 0x9f, 0x98, 0x80, 0x80], Array(1...255)] {
            #expect(RawText.bytes(RawText.string(bytes[...])) == bytes)
        }
    }

    @Test func capabilitiesHaveNames() throws {
        #expect(CapabilitySet(named: "cap_net_raw")?.rawValue == 1 << 13 && CapabilitySet(named: "CHOWN")?.names == ["CAP_CHOWN"])
        #expect(CapabilitySet(named: "all") == .full && CapabilitySet(named: "nonsense") == nil)
    }
}
