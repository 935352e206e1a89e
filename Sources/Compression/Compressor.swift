/// A compression format of SquashFS 4.0, with its number in the superblock.
public enum Compressor: UInt16, Sendable, CaseIterable {
    case gzip = 1
    case lzma = 2
    case lzo = 3
    case xz = 4
    case lz4 = 5
    case zstd = 6

    /// - Parameter name: as `mksquashfs -comp` has it, such as `zstd`; nil for any other.
    public init?(name: String) {
        guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }

    /// The name that squashfs-tools give it.
    public var name: String {
        switch self {
        case .gzip: "gzip"
        case .lzma: "lzma"
        case .lzo: "lzo"
        case .xz: "xz"
        case .lz4: "lz4"
        case .zstd: "zstd"
        }
    }

    /// The levels that can be asked for; nil where there is none to choose or nothing is written.
    public var levels: ClosedRange<Int>? {
        switch self {
        case .gzip: 1...12
        case .zstd: 1...22
        case .xz: 0...9
        case .lz4: 1...12
        case .lzo, .lzma: nil
        }
    }

    /// The level that is taken when none is asked for: the best size that costs little time.
    public var defaultLevel: Int {
        switch self {
        case .gzip: 6
        case .zstd: 6
        case .xz: 6
        case .lz4: 1
        case .lzo, .lzma: 0
        }
    }
}

/// Why compressed bytes could not be made or read.
public enum CompressionError: Error, CustomStringConvertible {
    /// The bytes are not valid in their format, or decode to more than there may be.
    case corrupt(format: String, detail: String)
    case unsupported(String)
    case outOfMemory

    /// The name, as `mksquashfs -comp` has it.
    public var description: String {
        switch self {
        case .corrupt(let format, let detail): "corrupt \(format) data (\(detail))"
        case .unsupported(let what): "\(what) is not supported"
        case .outOfMemory: "out of memory"
        }
    }
}
