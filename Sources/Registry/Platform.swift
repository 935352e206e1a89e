/// An operating system and processor, as image indexes name them.
public struct Platform: Hashable, Sendable, CustomStringConvertible {
    public var system: String
    public var architecture: String
    public var variant: String

    public init(system: String = "linux", architecture: String, variant: String = "") {
        self.system = system
        (self.architecture, self.variant) = Self.normalized(architecture, variant)
    }

    /// Reads `os/arch[/variant]` of --platform.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard (2...3).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }) else { return nil }
        self.init(system: parts[0], architecture: parts[1], variant: parts.count == 3 ? parts[2] : "")
    }

    /// Reads the words of --arch, such as `arm64` or `arm32v7`.
    public init?(archOption text: String) {
        let table: [String: (String, String)] = [
            "arm32v5": ("arm", "v5"), "arm32v6": ("arm", "v6"), "arm32v7": ("arm", "v7"), "arm64v8": ("arm64", ""),
        ]
        if let (architecture, variant) = table[text] {
            self.init(architecture: architecture, variant: variant)
            return
        }
        let known = ["amd64", "386", "arm", "arm64", "ppc64le", "s390x", "riscv64", "loong64", "x86_64", "aarch64", "i386"]
        guard known.contains(text) else { return nil }
        self.init(architecture: text)
    }

    private static func normalized(_ architecture: String, _ variant: String) -> (String, String) {
        switch architecture.lowercased() {
        case "x86_64", "x86-64", "amd64": ("amd64", variant == "v1" ? "" : variant)
        case "aarch64", "arm64": ("arm64", variant == "v8" || variant == "8" ? "" : variant)
        case "i386", "i686", "386": ("386", variant)
        case "armhf": ("arm", "v7")
        case "armel": ("arm", "v6")
        case "arm": ("arm", variant.isEmpty ? "v7" : variant.hasPrefix("v") ? variant : "v\(variant)")
        default: (architecture, variant)
        }
    }

    /// How well an image of another platform runs here: 0 exactly, more for older ARM variants, nil not at all.
    func distance(to other: Platform) -> Int? {
        guard system == other.system, architecture == other.architecture else { return nil }
        if variant.isEmpty || variant == other.variant { return 0 }
        if architecture == "arm", let mine = Int(variant.dropFirst()), let its = Int(other.variant.dropFirst()), its < mine {
            return mine - its
        }
        return nil
    }

    public var description: String { "\(system)/\(architecture)" + (variant.isEmpty ? "" : "/\(variant)") }
}
