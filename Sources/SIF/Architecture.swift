/// A processor architecture as SIF headers and partitions name it ("SIF, architecture codes").
public struct Architecture: Hashable, Sendable, CustomStringConvertible {
    /// Two ASCII digits.
    public let code: String
    /// The name that Go and container registries use; `unknown` for a code that is not in the list.
    public let name: String

    private static let names = [
        "386", "amd64", "arm", "arm64", "ppc64", "ppc64le", "mips", "mipsle", "mips64", "mips64le", "s390x", "riscv64",
        "loong64",
    ]

    /// What an image says that belongs to no processor.
    public static let unknown = Architecture(code: "00", name: "unknown")
    /// Every processor that the format has a code for.
    public static let all = names.compactMap { Architecture(name: $0) }

    private init(code: String, name: String) {
        self.code = code
        self.name = name
    }

    /// - Parameter name: as Go and the peers write it, such as `amd64`; nil for one that the format has no code for.
    public init?(name: String) {
        guard let index = Self.names.firstIndex(of: name) else { return nil }
        let number = index + 1
        self.init(code: number < 10 ? "0\(number)" : "\(number)", name: name)
    }

    /// From the two digits in a header; anything else is ``unknown``.
    public init(code bytes: some Sequence<UInt8>) {
        let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        self = Self.all.first { $0.code == text } ?? .unknown
    }

    /// The architecture that this program was built for.
    public static var host: Architecture {
        #if arch(x86_64)
            Architecture(name: "amd64") ?? .unknown
        #elseif arch(arm64)
            Architecture(name: "arm64") ?? .unknown
        #elseif arch(powerpc64le)
            Architecture(name: "ppc64le") ?? .unknown
        #elseif arch(s390x)
            Architecture(name: "s390x") ?? .unknown
        #elseif arch(riscv64)
            Architecture(name: "riscv64") ?? .unknown
        #else
            .unknown
        #endif
    }

    /// The three bytes that a header holds.
    var bytes: [UInt8] { Array(code.utf8) + [0] }

    /// The name, such as `amd64`.
    public var description: String { name }
}
