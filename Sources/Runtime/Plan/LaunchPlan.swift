import Linux

/// All that will happen when a container is started, before anything has happened.
public struct LaunchPlan: Sendable {
    /// What an image's root looks like to the program.
    public enum RootLayer: Sendable, Equatable {
        /// Read-only; missing mount points are made in a layer that is thrown away.
        case readOnly
        /// Changes go into memory and are thrown away.
        case writableTmpfs
        /// Changes go into the overlay of this number.
        case overlay(Int)
        /// The sandbox itself; nothing can be added to it but by the program.
        case writable
    }

    /// How missing mount points are added.
    public enum LayerKind: Sendable, Equatable {
        case overlay
        /// By the program fuse-overlayfs, without trying the kernel's overlay.
        case fuseOverlay
        /// A tree of bind mounts.
        case underlay
        case none
    }

    /// Absolute.
    public var image: String
    public var identity: RunIdentity
    public var namespaces: Namespaces
    public var network: RunOptions.Network
    /// Of the host, that lead to the container.
    public var ports: [PortMapping]
    /// The containers with which it shares a private network.
    public var group: String?
    public var rootLayer: RootLayer
    public var layerKind: LayerKind
    /// Laid over the image, the last one on top.
    public var overlays: [RunOptions.Overlay]
    /// Images whose files are shown by ``PlannedMount/Kind/image(_:path:readOnly:)``.
    public var dataImages: [DataImage]
    /// In the order in which they are made.
    public var mounts: [PlannedMount]
    /// Device files for a small /dev.
    public var devices: [String]
    /// No terminals can be made in a small /dev.
    public var hidesTerminals: Bool
    public var fuseMounts: [FuseMountSpec]
    /// Small files that the container gets: path and content.
    public var files: [(path: String, content: [UInt8], reason: String)]
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
    public var capabilities: CapabilitySet
    /// Programs can get no rights that they do not have. Only root can do without.
    public var forbidsNewPrivileges: Bool
    /// Set-user-id bits of the image count.
    public var allowsSetuid: Bool
    /// Ids of the program, where they are not those that the identity gives.
    public var runsAs: (user: UInt32, groups: [UInt32])?
    public var securityLabel: SecurityLabel?
    public var seccompProfile: String?
    public var limits: ResourceLimits
    public var instance: InstanceSettings?
    /// Bytes that the session may hold in memory, nil for no limit.
    public var sessionSize: UInt64?
    /// What the host mounts later shows in the container.
    public var followsHostMounts: Bool
    public var warnings: [String]
}

/// An image of which something is shown.
public struct DataImage: Sendable, Equatable {
    /// Absolute.
    public var path: String
    /// Number of the object in a SIF; nil for the first data partition.
    public var object: UInt32?
    /// Only an ext3 image that all mounts want to read only is opened so.
    public var isReadOnly: Bool
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
        /// A new instance for a new network namespace; the host's where that is refused.
        case sysfs
        /// A small /dev with nothing but the harmless devices.
        case minimalDev
        /// An empty directory of the session, shared in size with its other directories.
        case empty(mode: UInt32)
        /// A path within a data image of the plan.
        case image(Int, path: String, readOnly: Bool)
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
