import Linux

/// Why a container could not be started. The sentences say what to do.
public enum RuntimeError: Error, CustomStringConvertible {
    case badOption(String)
    case noImage(String)
    case badImage(String, why: String)
    /// A step of the launch plan that failed.
    case step(String, any Error, hint: String)
    /// Of --pwd.
    case noDirectory(String, String)
    case noCommand(String)
    case notExecutable(String, why: String)

    public var description: String {
        switch self {
        case .badOption(let why): why
        case .noImage(let path): "could not open image \(path): no such file or directory"
        case .badImage(let path, let why): "could not open image \(path): \(why)"
        case .step(let what, let error, let hint): "while \(what): \(error)\(hint.isEmpty ? "" : "; \(hint)")"
        case .noCommand(let name): "\"\(name)\": executable file not found in $PATH of the container"
        case .noDirectory(let path, let why):
            "failed to set working directory \(path): \(why); --pwd names a directory of the container"
        case .notExecutable(let path, let why): "\"\(path)\" cannot be executed in the container: \(why)"
        }
    }
}
