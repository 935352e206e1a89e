/// Why an image tree could not be made.
public enum TreeError: Error, CustomStringConvertible {
    /// A layer entry that cannot be right; the image is refused.
    case badEntry(layer: String, path: String, why: String)
    /// More than an image can hold.
    case tooLarge(layer: String, path: String, why: String)
    /// A hard link to a name that no layer has.
    case danglingHardLink(layer: String, path: String, target: String)
    /// The bytes of a file are in an image that is being written.
    case notReadable

    public var description: String {
        switch self {
        case .badEntry(let layer, let path, let why), .tooLarge(let layer, let path, let why):
            "\(layer): the entry \"\(path)\" \(why); the image is refused"
        case .danglingHardLink(let layer, let path, let target):
            "\(layer): \"\(path)\" is a hard link to \"\(target)\", which is not there; the image is refused"
        case .notReadable: "a file's bytes are in the image under construction and cannot be read back"
        }
    }
}
