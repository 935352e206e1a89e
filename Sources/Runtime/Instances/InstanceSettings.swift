/// How an instance shall be kept.
public struct InstanceSettings: Sendable, Equatable {
    /// When its program is started again.
    public enum Restart: Sendable, Equatable {
        case never
        /// When it ends with another status than 0, at most so often in a row.
        case onFailure(limit: Int?)
        case always
    }

    public var name: String
    /// A file that gets the number of the first process.
    public var pidFile: String?
    public var restart: Restart = .never
    public var health: HealthCheck?
    /// What the image's labels say of its health does not count.
    public var ignoresImageHealth = false
    /// Of each of its logs; nil for none.
    public var logLimit: LogLimit?

    public init(name: String) { self.name = name }

    /// Reads `no`, `always`, `on-failure` and `on-failure:COUNT`.
    public static func restart(_ text: String) throws(RuntimeError) -> Restart {
        switch text {
        case "no", "never": return .never
        case "always", "unless-stopped": return .always
        case "on-failure": return .onFailure(limit: nil)
        default:
            let parts = text.split(separator: ":")
            if parts.count == 2, parts[0] == "on-failure", let limit = Int(parts[1]), limit > 0 { return .onFailure(limit: limit) }
            throw .badOption("--restart \(text): choose no, on-failure, on-failure:COUNT or always")
        }
    }
}
