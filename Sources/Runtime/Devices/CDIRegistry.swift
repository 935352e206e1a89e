import Linux
import Yams

/// Descriptions of devices by their vendors: the Container Device Interface, specification 0.8.
package struct CDIRegistry {
    /// What a device adds to a container.
    struct Edits: Decodable {
        struct Node: Decodable {
            var path: String
            var hostPath: String?
        }
        struct Mount: Decodable {
            var hostPath: String
            var containerPath: String
            var options: [String]?
        }
        struct Hook: Decodable {
            var hookName: String
            var path: String
        }
        var env: [String]?
        var deviceNodes: [Node]?
        var mounts: [Mount]?
        var hooks: [Hook]?
    }

    private struct Spec: Decodable {
        struct Device: Decodable {
            var name: String
            var containerEdits: Edits?
        }
        var cdiVersion: String
        var kind: String
        var devices: [Device]
        var containerEdits: Edits?
    }

    private var specs: [(path: String, spec: Spec)] = []

    static let standardFolders = ["/etc/cdi", "/var/run/cdi"]

    /// Reads all files of some directories; a later directory wins.
    package init(_ folders: [String]) throws(RuntimeError) {
        for folder in folders {
            for name in ((try? Files.entries(folder)) ?? []).sorted()
            where name.hasSuffix(".json") || name.hasSuffix(".yaml") || name.hasSuffix(".yml") {
                let path = folder + "/" + name
                do {
                    // JSON is YAML too.
                    let text = try Files.readText(path, limit: 4 << 20)
                    specs.insert((path, try YAMLDecoder().decode(Spec.self, from: text)), at: 0)
                } catch {
                    throw .badOption("the device description \(path) cannot be read: \(error)")
                }
            }
        }
    }

    /// What a device such as `nvidia.com/gpu=0` adds, general edits first.
    func edits(for device: String) throws(RuntimeError) -> [Edits] {
        let parts = device.split(separator: "=", maxSplits: 1).map(String.init)
        guard parts.count == 2, parts[0].split(separator: "/").count == 2 else {
            throw .badOption("--device \(device): give VENDOR/CLASS=NAME, such as nvidia.com/gpu=all")
        }
        for (_, spec) in specs where spec.kind == parts[0] {
            guard let found = spec.devices.first(where: { $0.name == parts[1] }) else { continue }
            return [spec.containerEdits, found.containerEdits].compactMap { $0 }
        }
        let known = specs.flatMap { spec in spec.spec.devices.map { "\(spec.spec.kind)=\($0.name)" } }
        throw .badOption(
            "--device \(device): there is no such device; "
                + (known.isEmpty ? "no descriptions were found (--cdi-dirs)" : "there are \(known.joined(separator: ", "))"))
    }
}
