import Foundation
import Glibc
import Linux

/// Networks made by plugins (Container Network Interface, specification 1.0): programs that get a configuration on their
/// standard input. For root only.
struct CNINetworks: Sendable {
    private struct Plugin: Sendable {
        var program: String
        /// JSON object of the plugin in its list.
        var configuration: Data
        var interface: String
        var arguments: String
    }

    private let plugins: [[Plugin]]
    private let pluginPath: String
    private let identifier = "singularity-\(getpid())"
    private let ports: [PortMapping]

    /// What there is where no configuration names a network: a bridge with addresses of its own.
    private static let standard = """
        {"cniVersion": "0.4.0", "name": "bridge", "plugins": [
          {"type": "bridge", "bridge": "sbr0", "isGateway": true, "ipMasq": true,
           "ipam": {"type": "host-local", "subnet": "10.22.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}},
          {"type": "firewall"},
          {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
        ]}
        """

    init(_ names: [String], _ arguments: [String], _ ports: [PortMapping], _ configuration: Configuration) throws {
        self.ports = ports
        let configured = configuration["cni plugin path"]
        let folders = configured.isEmpty ? ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"] : [configured]
        guard let folder = folders.first(where: Files.isDirectory) else {
            throw RuntimeError.badOption(
                "--network \(names.joined(separator: ",")): no CNI plugins in \(folders.joined(separator: ", ")); install Debian's package containernetworking-plugins, or use --network none"
            )
        }
        pluginPath = folder
        let lists = configuration["cni configuration path"]
        let wanted = names.isEmpty ? ["bridge"] : names
        let extra = arguments.filter { !$0.hasPrefix("portmap=") }.joined(separator: ";")
        var all: [[Plugin]] = []
        for (index, name) in wanted.enumerated() {
            // A name is never part of a path: files are searched for it.
            let list = try Self.list(name, in: lists.isEmpty ? ["/etc/singularity/network", "/etc/cni/net.d"] : [lists])
            guard let object = try JSONSerialization.jsonObject(with: list) as? [String: Any] else {
                throw RuntimeError.badOption("--network \(name): its configuration is not a JSON object")
            }
            let entries = object["plugins"] as? [[String: Any]] ?? [object]
            all.append(
                try entries.compactMap { entry in
                    var entry = entry
                    guard let type = entry["type"] as? String, !type.contains("/"), !type.isEmpty else {
                        throw RuntimeError.badOption("--network \(name): a plugin of its configuration has no proper type")
                    }
                    let program = folder + "/" + type
                    guard access(program, X_OK) == 0 else {
                        throw RuntimeError.badOption("--network \(name): the plugin \(program) is missing")
                    }
                    entry["name"] = object["name"]
                    entry["cniVersion"] = object["cniVersion"] ?? "0.4.0"
                    return Plugin(
                        program: program, configuration: try JSONSerialization.data(withJSONObject: entry), interface: "eth\(index)",
                        arguments: extra)
                })
        }
        plugins = all
    }

    private static func list(_ name: String, in folders: [String]) throws -> Data {
        for folder in folders {
            for file in ((try? Files.entries(folder)) ?? []).sorted() where file.hasSuffix(".conflist") || file.hasSuffix(".conf") {
                guard let bytes = try? Files.read(folder + "/" + file, limit: 1 << 20),
                    let object = try? JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any], object["name"] as? String == name
                else { continue }
                return Data(bytes)
            }
        }
        guard name == "bridge" else {
            throw RuntimeError.badOption(
                "--network \(name): there is no such network in \(folders.joined(separator: ", ")); there is bridge, and none")
        }
        return Data(standard.utf8)
    }

    /// Connects the network namespace of a process.
    func add(_ pid: pid_t) throws {
        for list in plugins {
            var previous: Any?
            for plugin in list {
                let output = try run(plugin, "ADD", "/proc/\(pid)/ns/net", previous)
                guard !output.isEmpty else { continue }
                previous = try? JSONSerialization.jsonObject(with: output)
            }
        }
    }

    /// Takes back what was done on the host.
    func remove() { for list in plugins.reversed() { for plugin in list.reversed() { _ = try? run(plugin, "DEL", "", nil) } } }

    private func run(_ plugin: Plugin, _ command: String, _ namespace: String, _ previous: Any?) throws -> Data {
        guard var object = try JSONSerialization.jsonObject(with: plugin.configuration) as? [String: Any] else { return Data() }
        if let previous { object["prevResult"] = previous }
        if !ports.isEmpty, (object["capabilities"] as? [String: Any])?["portMappings"] != nil {
            object["runtimeConfig"] = [
                "portMappings": ports.map(\.forPlugins)
            ]
        }
        let variables = [
            "CNI_COMMAND=\(command)", "CNI_CONTAINERID=\(identifier)", "CNI_NETNS=\(namespace)", "CNI_IFNAME=\(plugin.interface)",
            "CNI_PATH=\(pluginPath)", "CNI_ARGS=\(plugin.arguments)", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        let result = try ChildProcess.run(
            ["/usr/bin/env", "-i"] + variables + [plugin.program], input: Array(try JSONSerialization.data(withJSONObject: object)))
        guard result.status == 0 else {
            let error = (try? JSONSerialization.jsonObject(with: Data(result.output)) as? [String: Any]) ?? [:]
            throw RuntimeError.badOption(
                "the network plugin \(plugin.program) has failed: \(error["msg"] as? String ?? "status \(result.status)") \(error["details"] as? String ?? "")"
            )
        }
        return Data(result.output)
    }
}
