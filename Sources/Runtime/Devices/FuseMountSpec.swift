/// --fusemount: a program that serves a file system in the container.
public struct FuseMountSpec: Sendable, Equatable {
    /// The program runs in the container rather than on the host.
    public var runsInContainer: Bool
    /// The program and its arguments; the descriptor of the device is added behind them.
    public var command: [String]
    public var mountPoint: String

    /// Reads `TYPE:COMMAND... MOUNTPOINT`.
    public init(_ text: String) throws(RuntimeError) {
        guard let colon = text.firstIndex(of: ":") else {
            throw .badOption("--fusemount \(text): give TYPE:COMMAND MOUNTPOINT, with the type container or host")
        }
        switch text[..<colon] {
        case "container", "container-daemon": runsInContainer = true
        case "host", "host-daemon": runsInContainer = false
        default:
            throw .badOption(
                "--fusemount \(text): \(text[..<colon]) is not a type; there are container, host, container-daemon and host-daemon")
        }
        var words = text[text.index(after: colon)...].split(separator: " ").map(String.init)
        guard words.count >= 2, let last = words.popLast(), last.hasPrefix("/") else {
            throw .badOption("--fusemount \(text): give a command and, as its last word, an absolute mount point")
        }
        command = words
        mountPoint = last
    }
}
