import Linux
import TOMLKit

/// --apply-cgroups: limits as a TOML file with the names of the OCI runtime specification.
extension ResourceLimits {
    /// Reads a file.
    public init(file path: String) throws(RuntimeError) {
        self.init()
        let table: TOMLTable
        do { table = try TOMLTable(string: try Files.readText(path, limit: 1 << 20)) } catch let error as SystemError {
            throw .badOption("--apply-cgroups \(path): \(error.reason)")
        } catch { throw .badOption("--apply-cgroups \(path): \(error)") }
        for (name, value) in table {
            guard let part = value.table else {
                if ["devices", "hugepageLimits"].contains(name) {
                    throw .badOption("--apply-cgroups \(path): [[\(name)]] is not supported; leave it out")
                }
                throw .badOption("--apply-cgroups \(path): \(name) is not a table such as [memory]")
            }
            for (key, value) in part { try take(name, key, value, path) }
        }
    }

    private mutating func take(_ table: String, _ key: String, _ value: any TOMLValueConvertible, _ path: String) throws(RuntimeError) {
        func number() throws(RuntimeError) -> Int64 {
            guard let number = value.int else { throw .badOption("--apply-cgroups \(path): \(table).\(key) must be a number") }
            return Int64(number)
        }
        func text() throws(RuntimeError) -> String {
            guard let text = value.string else { throw .badOption("--apply-cgroups \(path): \(table).\(key) must be a text") }
            return text
        }
        switch (table, key) {
        case ("cpu", "shares"): cpuShares = UInt64(clamping: try number())
        case ("cpu", "quota"): cpus = Double(try number()) / 100_000
        case ("cpu", "period"):
            guard try number() == 100_000 else { throw .badOption("--apply-cgroups \(path): cpu.period can only be 100000 microseconds") }
        case ("cpu", "cpus"): cpusetCPUs = try text()
        case ("cpu", "mems"): cpusetNodes = try text()
        case ("memory", "limit"): memory = try number()
        case ("memory", "reservation"): memoryReservation = try number()
        case ("memory", "swap"): memorySwap = try number()
        case ("memory", "disableOOMKiller"): disablesOOMKiller = value.bool ?? false
        case ("pids", "limit"): processes = try number()
        case ("blockIO", "weight"): blockWeight = UInt64(clamping: try number())
        case ("unified", _): unified.append((key, try text()))
        default: throw .badOption("--apply-cgroups \(path): \(table).\(key) is not supported; leave it out")
        }
    }
}
