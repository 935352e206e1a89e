import BlockIO
import Linux

/// Why a SIF file could not be read or changed.
public enum SIFError: Error, CustomStringConvertible {
    case notSIF(name: String, reason: String)
    case corrupt(name: String, what: String)
    case noObject(id: UInt32)
    /// The request cannot be met; the text is the peers' own sentence.
    case refused(String)
    case block(BlockError)
    case system(SystemError)

    /// One sentence that names the file.
    public var description: String {
        switch self {
        case .notSIF(let name, let reason): "\(name) is not a SIF image: \(reason)"
        case .corrupt(let name, let what): "\(name) is damaged: \(what)"
        case .noObject: "object not found"
        case .refused(let what): what
        case .block(let error): "\(error)"
        case .system(let error): "\(error)"
        }
    }
}
