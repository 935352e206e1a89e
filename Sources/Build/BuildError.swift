/// Why an image could not be built.
public enum BuildError: Error, CustomStringConvertible {
    case badSource(String, why: String)
    case targetExists(String)
    case digestMismatch(layer: String, expected: String, found: String)
    case refused(String)
    /// A section of a definition file that has failed.
    case section(SectionFailure)
    /// What went wrong has been said on standard error already.
    case told

    public var description: String {
        switch self {
        case .badSource(let source, let why): "\(source): \(why)"
        case .targetExists(let path):
            "build target '\(path)' already exists. Use --force if you want to overwrite it"
        case .digestMismatch(let layer, let expected, let found):
            "\(layer) unpacks to other data than the image's configuration says (diff_id \(expected), found \(found)); the image is refused"
        case .refused(let why): why
        case .section(let failure): failure.sentence
        case .told: "the build has failed"
        }
    }
}
