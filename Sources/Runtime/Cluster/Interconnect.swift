import Linux

/// A fast network of this host, and what a program needs to use it.
package struct Interconnect {
    /// For people.
    package var name: String
    /// Libraries of which the image needs one group: all of a group together use it.
    package var libraries: [[String]]

    /// Those of this host.
    package static func all(devices: [String], infiniBand: [String]) -> [Interconnect] {
        var out: [Interconnect] = []
        if !infiniBand.isEmpty {
            let adapters = infiniBand.filter { !$0.hasPrefix("hfi1") }
            if !adapters.isEmpty {
                out.append(
                    Interconnect(
                        name: "InfiniBand or RoCE (\(adapters.joined(separator: ", ")))",
                        libraries: [["libibverbs.so.1", "libucp.so.0"], ["libibverbs.so.1", "libfabric.so.1"], ["libibverbs.so.1"]]))
            }
        }
        if devices.contains(where: { $0.hasPrefix("hfi1") }) {
            out.append(Interconnect(name: "Omni-Path", libraries: [["libpsm2.so.2"]]))
        }
        if devices.contains(where: { $0.hasPrefix("cxi") }) {
            out.append(Interconnect(name: "Slingshot", libraries: [["libfabric.so.1", "libcxi.so.1"]]))
        }
        return out
    }

    package static var ofHost: [Interconnect] {
        all(
            devices: (try? Files.entries("/dev")) ?? [], infiniBand: ((try? Files.entries("/sys/class/infiniband")) ?? []).sorted())
    }

    /// What an image lacks for it: the libraries of the nearest group; empty where nothing is missing.
    package func missing(in libraries: ImageLibraries) -> [String] {
        let missing = self.libraries.map { $0.filter { !libraries.has($0) } }
        return missing.min { $0.count < $1.count } ?? []
    }
}
