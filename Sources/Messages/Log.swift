import Glibc
import Linux

/// Messages for people, on standard error. Standard output is for results only.
public struct Log: Sendable {
    /// How much is said. The numbers are those of SINGULARITY_MESSAGELEVEL.
    public enum Level: Int, Sendable, Comparable {
        case fatal = -4
        case error = -3
        case warning = -2
        case info = 1
        case verbose = 2
        case debug = 5

        public static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }

        var label: String {
            switch self {
            case .fatal: "FATAL:   "
            case .error: "ERROR:   "
            case .warning: "WARNING: "
            case .info: "INFO:    "
            case .verbose: "VERBOSE: "
            case .debug: "DEBUG:   "
            }
        }

        /// Colour of the label on a terminal (ECMA-48).
        var colour: String {
            switch self {
            case .fatal, .error: "\u{1b}[31m"
            case .warning: "\u{1b}[33m"
            case .info: "\u{1b}[34m"
            case .verbose, .debug: "\u{1b}[36m"
            }
        }
    }

    public let level: Level
    public let usesColour: Bool

    public init(level: Level, usesColour: Bool) {
        self.level = level
        self.usesColour = usesColour
    }

    public func info(_ text: @autoclosure () -> String) { say(.info, text) }
    public func warning(_ text: @autoclosure () -> String) { say(.warning, text) }
    public func verbose(_ text: @autoclosure () -> String) { say(.verbose, text) }
    public func debug(_ text: @autoclosure () -> String) { say(.debug, text) }
    public func error(_ text: @autoclosure () -> String) { say(.error, text) }
    public func fatal(_ text: @autoclosure () -> String) { say(.fatal, text) }

    private func say(_ kind: Level, _ text: () -> String) {
        guard kind <= level else { return }
        let label = usesColour ? kind.colour + kind.label + "\u{1b}[0m" : kind.label
        // Nobody reads it: there is nothing better to do.
        try? Files.writeAll(Array("\(label)\(text())\n".utf8), to: 2, name: "standard error")
    }
}
