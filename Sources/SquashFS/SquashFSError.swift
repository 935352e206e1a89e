import BlockIO
import Compression
import Linux

/// Why a SquashFS image could not be read or written.
public enum SquashFSError: Error, CustomStringConvertible {
    /// The image does not start with a SquashFS superblock.
    case notSquashFS(name: String)
    /// A version or feature that this reader does not know.
    case unsupported(name: String, what: String)
    /// A value in the image that cannot be right; `position` is in bytes from the start of the file system.
    case corrupt(name: String, what: String, position: UInt64)
    case block(BlockError)
    case compression(name: String, CompressionError)
    case system(SystemError)
    /// More than the format can hold.
    case limit(String)

    /// One sentence that names the image, and the place in it.
    public var description: String {
        switch self {
        case .notSquashFS(let name): "\(name) is not a SquashFS file system"
        case .unsupported(let name, let what): "\(name): \(what) is not supported"
        case .corrupt(let name, let what, let position): "\(name) is damaged: \(what) at byte \(position)"
        case .block(let error): "\(error)"
        case .compression(let name, let error): "\(name) is damaged: \(error)"
        case .system(let error): "\(error)"
        case .limit(let what): "SquashFS cannot hold \(what)"
        }
    }
}
