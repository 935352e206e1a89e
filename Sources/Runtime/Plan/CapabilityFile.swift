import Foundation
import Linux

/// The list of capabilities that an administrator has given to users and groups: capability.json of the peers.
public struct CapabilityFile: Codable, Sendable {
    public var users: [String: [String]]?
    public var groups: [String: [String]]?

    public static let path = "/etc/singularity/capability.json"

    public init() {}

    /// What is in the file; nothing where there is none.
    public static func load(_ path: String = path) -> CapabilityFile {
        guard let bytes = try? Files.read(path, limit: 1 << 20),
            let file = try? JSONDecoder().decode(CapabilityFile.self, from: Data(bytes))
        else { return CapabilityFile() }
        return file
    }

    public func save(_ path: String = path) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        try Files.makeDirectories(String(path.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }))
        try Files.replace(path, with: Array(try encoder.encode(self)) + [0x0a])
    }

    func capabilities(user: String) -> CapabilitySet {
        (users?[user] ?? []).reduce(into: CapabilitySet()) { $0.formUnion(CapabilitySet(named: $1) ?? []) }
    }
}
