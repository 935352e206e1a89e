import Crypto
import Registry

/// Names a layer by all that went into it: the layers below, what was done, and with which inputs.
public struct LayerKey: Sendable, Hashable {
    /// 64 hexadecimal digits.
    public let text: String

    /// Changes when layers of older versions must not be taken for those of this one.
    private static let version = "singularity build layer 1"

    /// - Parameter base: what identifies the content that the first layer lies on.
    public init(base: String) { text = Self.hash([Self.version, base]) }

    private init(text: String) { self.text = text }

    /// The key of the next layer.
    /// - Parameter parts: of what is done.
    public func appending(_ parts: [String]) -> LayerKey { LayerKey(text: Self.hash([text] + parts)) }

    private static func hash(_ parts: [String]) -> String {
        var hasher = SHA256()
        for part in parts {
            // With the length before it, no part can be taken for two.
            hasher.update(data: Array("\(part.utf8.count):".utf8))
            hasher.update(data: Array(part.utf8))
        }
        return hasher.finalize().hexadecimal
    }
}

extension Sequence where Element == UInt8 {
    /// Two digits a byte.
    public var hexadecimal: String { map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
}
