import Encryption
import Linux

/// Where the keys of encrypted images come from. They are asked for once, when the first such image is met.
public final class ImageKeys: Sendable {
    private let source: @Sendable () throws -> EncryptionKeys
    private let memory = Memory()

    /// `@unchecked Sendable`: only touched with the monitor held.
    private final class Memory: @unchecked Sendable {
        let monitor = Monitor()
        var keys: EncryptionKeys?
    }

    public init(_ source: @escaping @Sendable () throws -> EncryptionKeys) { self.source = source }

    /// There are none.
    public static let none = ImageKeys { EncryptionKeys() }

    public func load() throws -> EncryptionKeys {
        try memory.monitor.locked {
            if let keys = memory.keys { return keys }
            let keys = try source()
            memory.keys = keys
            return keys
        }
    }
}
