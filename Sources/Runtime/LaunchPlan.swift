import Linux

/// All that will happen when a container is started, before anything has happened.
public struct LaunchPlan: Sendable {
    /// What an image's root looks like to the program.
    public enum RootLayer: Sendable, Equatable {
        /// Read-only; missing mount points are made in a layer that is thrown away.
        case readOnly
        /// Changes go into memory and are thrown away.
        case writableTmpfs
        /// The sandbox itself; nothing can be added to it but by the program.
        case writable
    }

    public var namespaces: Namespaces
    public var rootLayer: RootLayer
    /// In the order in which they are made.
    public var mounts: [PlannedMount]
    /// Small files that the container gets: path and content.
    public var files: [(path: String, content: [UInt8])]
    public var environment: EnvironmentPlan
    /// Where to start, the first that exists.
    public var workingDirectories: [String]
    /// The first of ``workingDirectories`` must exist.
    public var workingDirectoryIsRequired: Bool
    public var hostName: String?
    public var umask: UInt32
    public var action: RunOptions.Action
    /// A small init process is PID 1 of a new PID namespace.
    public var usesInit: Bool
    public var home: String
}

/// One mount of a plan.
public struct PlannedMount: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        /// A path of the host, with what is mounted below it.
        case bind(source: String, readOnly: Bool)
        /// A directory below --workdir, which is made where it is not there.
        case workFolder(String, mode: UInt32)
        /// A new instance for a new PID namespace.
        case proc
        /// A small /dev with nothing but the harmless devices.
        case minimalDev
        /// An empty directory of the session, shared in size with its other directories.
        case empty(mode: UInt32)
    }

    public var kind: Kind
    public var destination: String
    /// A failure ends the start; otherwise it is a warning.
    public var isRequired: Bool
    /// For people.
    public var reason: String

    public init(_ kind: Kind, _ destination: String, isRequired: Bool, reason: String) {
        self.kind = kind
        self.destination = destination
        self.isRequired = isRequired
        self.reason = reason
    }
}
