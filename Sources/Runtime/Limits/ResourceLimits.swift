/// What a container may take of the machine. Nil and empty values limit nothing. The names are those of the OCI runtime
/// specification, "Linux resources".
public struct ResourceLimits: Sendable, Equatable {
    /// 10 to 1000.
    public var blockWeight: UInt64?
    /// Weights of single devices: device file and weight.
    public var blockDeviceWeights: [(device: String, weight: UInt64)] = []
    public var cpuShares: UInt64?
    /// Processors' worth of time, such as 1.5.
    public var cpus: Double?
    /// Lists such as `0-3,8`.
    public var cpusetCPUs: String?
    public var cpusetNodes: String?
    /// Bytes.
    public var memory: Int64?
    public var memoryReservation: Int64?
    /// Bytes of memory and swap together, -1 for no limit.
    public var memorySwap: Int64?
    public var disablesOOMKiller = false
    /// -1 for no limit.
    public var processes: Int64?
    /// Files of cgroup v2 and what is written to them.
    public var unified: [(file: String, value: String)] = []

    public init() {}

    public static func == (left: ResourceLimits, right: ResourceLimits) -> Bool { left.text == right.text }

    public var isEmpty: Bool { text.isEmpty }

    /// For people: one line a limit.
    public var text: [String] {
        var out: [String] = []
        if let blockWeight { out.append("block I/O weight \(blockWeight)") }
        for (device, weight) in blockDeviceWeights { out.append("block I/O weight of \(device) \(weight)") }
        if let cpuShares { out.append("CPU shares \(cpuShares)") }
        if let cpus { out.append("CPUs \(cpus)") }
        if let cpusetCPUs { out.append("only the CPUs \(cpusetCPUs)") }
        if let cpusetNodes { out.append("only the memory nodes \(cpusetNodes)") }
        if let memory { out.append("memory \(memory) bytes") }
        if let memoryReservation { out.append("memory, softly, \(memoryReservation) bytes") }
        if let memorySwap { out.append(memorySwap < 0 ? "memory and swap unlimited" : "memory and swap \(memorySwap) bytes") }
        if disablesOOMKiller { out.append("not killed for lack of memory") }
        if let processes { out.append(processes < 0 ? "processes unlimited" : "processes \(processes)") }
        for (file, value) in unified { out.append("\(file) \(value)") }
        return out
    }
}
