/// What goes wrong with overlays, data containers and commits, in a sentence for people.
public enum PersistenceError: Error, CustomStringConvertible {
    case refused(String)

    public var description: String {
        switch self {
        case .refused(let sentence): sentence
        }
    }
}
