import Linux

/// What an image is made of, as the user named it.
public enum ImageSource: Sendable, Equatable {
    /// A registry image, without `docker://`.
    case docker(String)
    /// An OCI layout directory, with what follows the colon or `@`.
    case ociLayout(String)
    case ociArchive(String)
    case dockerArchive(String)
    /// An image of a running Docker.
    case dockerDaemon(String)
    /// A SIF of a registry, without `oras://`.
    case oras(String)
    /// A SIF of a container library, without `library://`.
    case library(String)
    /// A file of a web server: the whole address.
    case web(String)
    /// A file or directory.
    case path(String)
    /// A scheme that is known but not served here.
    case unsupported(scheme: String)

    /// Only a known scheme makes an address of a text; everything else is a path.
    public init(_ text: String) {
        guard let colon = text.firstIndex(of: ":") else {
            self = .path(text)
            return
        }
        let scheme = text[..<colon]
        let rest = String(text[text.index(after: colon)...])
        switch scheme {
        case "docker": self = .docker(rest.hasPrefix("//") ? String(rest.dropFirst(2)) : rest)
        case "oci": self = .ociLayout(Self.plain(rest))
        case "oci-archive": self = .ociArchive(Self.plain(rest))
        case "oras" where rest.hasPrefix("//"): self = .oras(String(rest.dropFirst(2)))
        case "library" where rest.hasPrefix("//"): self = .library(String(rest.dropFirst(2)))
        case "http" where rest.hasPrefix("//"), "https" where rest.hasPrefix("//"): self = .web(text)
        case "docker-daemon": self = .dockerDaemon(Self.plain(rest))
        case "docker-archive": self = .dockerArchive(Self.plain(rest))
        default:
            self = rest.hasPrefix("//") ? .unsupported(scheme: String(scheme)) : .path(text)
        }
    }

    /// `oci:dir` and `oci://dir` mean the same; a third slash makes the path absolute.
    private static func plain(_ rest: String) -> String { rest.hasPrefix("//") ? String(rest.dropFirst(2)) : rest }

    /// The bootstrap agent of the same meaning.
    public var agent: String {
        switch self {
        case .docker: "docker"
        case .ociLayout: "oci"
        case .ociArchive: "oci-archive"
        case .dockerArchive: "docker-archive"
        case .dockerDaemon: "docker-daemon"
        case .oras: "oras"
        case .library: "library"
        case .web: "localimage"
        case .path: "localimage"
        case .unsupported(let scheme): scheme
        }
    }

    /// The name without its scheme.
    public var name: String {
        switch self {
        case .docker(let name), .ociLayout(let name), .ociArchive(let name), .dockerArchive(let name), .dockerDaemon(let name),
            .oras(let name), .library(let name), .web(let name), .path(let name):
            name
        case .unsupported(let scheme): scheme
        }
    }

    /// It is an image file already, which is kept as it is.
    public var isImageFile: Bool {
        switch self {
        case .oras, .library, .web: true
        default: false
        }
    }
}
