/// What a build makes.
public enum BuildTarget: Sendable, Equatable {
    /// An image file.
    case sif(String)
    /// A directory.
    case sandbox(String)
    /// A bare SquashFS file.
    case squashFS(String)
    /// One layer and a configuration in a directory, as other container engines read it.
    case ociLayout(String)
    /// The same in a tar.
    case ociArchive(String)
    /// The files as a tar, compressed as its name says.
    case tar(String)

    /// Where it will be.
    public var path: String {
        switch self {
        case .sif(let path), .sandbox(let path), .squashFS(let path), .ociLayout(let path), .ociArchive(let path), .tar(let path): path
        }
    }
}
