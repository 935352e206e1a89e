import Linux

/// What an image is made of, as the user named it.
public enum ImageSource: Sendable, Equatable {
    /// A registry image, without `docker://`.
    case docker(String)
    /// An OCI layout directory, with what follows the colon or `@`.
    case ociLayout(String)
    case ociArchive(String)
    case dockerArchive(String)
    /// A file or directory.
    case path(String)
    /// A scheme that is known but not served here.
    case unsupported(scheme: String)

    private static let unsupportedSchemes = ["library", "oras", "shub", "http", "https", "docker-daemon", "ipfs"]

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
        case "docker-archive": self = .dockerArchive(Self.plain(rest))
        default:
            let isAddress = rest.hasPrefix("//") || scheme == "docker-daemon"
            self = isAddress ? .unsupported(scheme: String(scheme)) : .path(text)
        }
    }

    /// `oci:dir` and `oci://dir` mean the same; a third slash makes the path absolute.
    private static func plain(_ rest: String) -> String { rest.hasPrefix("//") ? String(rest.dropFirst(2)) : rest }
}
