import Linux

/// What shall run in a container, as the user said it.
public struct RunOptions: Sendable {
    public enum Action: Sendable, Equatable {
        /// A program and its arguments.
        case exec([String])
        /// The image's run script.
        case run([String])
        case test([String])
        /// A shell; the text is `--shell`. A login shell is the account's own, and reads the start-up files.
        case shell(String?, isLogin: Bool = false)
        /// The image's start script, for an instance.
        case start([String])

        /// The value of SINGULARITY_COMMAND.
        var name: String {
            switch self {
            case .exec: "exec"
            case .run: "run"
            case .test: "test"
            case .shell: "shell"
            case .start: "start"
            }
        }
    }

    /// --overlay: changes or additions that are laid over the image.
    public struct Overlay: Sendable, Equatable {
        public var path: String
        public var isReadOnly: Bool
        /// Number of the object in a SIF, where it is not the first overlay partition.
        public var object: UInt32?
        /// It is a part of the image that is run.
        public var isEmbedded = false

        /// A partition of the image itself.
        init(embedded object: UInt32, in path: String, isReadOnly: Bool) {
            self.path = path
            self.isReadOnly = isReadOnly
            self.object = object
            isEmbedded = true
        }

        /// For people.
        var name: String { isEmbedded ? "the overlay partition of \(path)" : "--overlay \(path)" }

        /// `PATH[:ro]`
        public init(_ text: String) {
            isReadOnly = text.hasSuffix(":ro")
            path = isReadOnly ? String(text.dropLast(3)) : text.hasSuffix(":rw") ? String(text.dropLast(3)) : text
        }
    }

    /// The network that a container is in.
    public enum Network: Sendable, Equatable {
        case host
        /// A loopback interface and nothing else.
        case isolated
        /// New and connected: CNI networks for root, pasta or slirp4netns for others.
        case connected(names: [String], arguments: [String])
        /// One that is there, by the path of its namespace.
        case joined(String)
    }

    public var image: String
    public var action: Action
    public var configuration = Configuration()
    /// --verify, or the configuration's `verify images`.
    public var verification: ImageVerification?
    /// For encrypted images.
    public var keys = ImageKeys.none
    public var binds: [BindSpec] = []
    public var overlays: [Overlay] = []
    /// Minimal /dev, empty home and /tmp, no working directory.
    public var contain = false
    /// ``contain`` with PID and IPC namespaces and a clean environment.
    public var containAll = false
    public var cleanEnvironment = false
    /// Names and values of --env, in order.
    public var environment: [(name: String, value: String)] = []
    /// Names of variables of the host that are not passed on.
    public var withheldVariables: Set<String> = []
    /// --pwd
    public var workingDirectory: String?
    public var writableTmpfs = false
    /// Changes go into a sandbox directory.
    public var writable = false
    /// Missing mount points are made by bind mounts rather than by an overlay.
    public var prefersUnderlay = false
    public var newPID = false
    /// No PID namespace, whatever other options imply.
    public var forbidsPID = false
    public var newIPC = false
    public var newUTS = false
    public var hostName: String?
    public var network: Network = .host
    /// --publish
    public var ports: [PortMapping] = []
    /// The containers with which it shares a private network.
    public var group: String?
    public var newUser = false
    /// Be root in the container.
    public var fakeRoot = false
    /// Be root without other ids, although there are subordinate ones.
    public var ignoresSubordinateIDs = false
    public var noInit = false
    public var noHome = false
    /// --home: source and destination.
    public var home: (source: String, destination: String)?
    /// Words of --no-mount.
    public var noMount: Set<String> = []
    public var workDirectory: String?
    public var scratch: [String] = []
    /// Values and arguments are taken literally.
    public var noEval = false
    public var noUmask = false
    public var app = ""
    public var dns: [String] = []
    /// Unpack the image into a directory instead of mounting it.
    public var unpack = false
    /// Serve the image for this container alone.
    public var isolatesServer = false

    // MARK: Rights

    public var addedCapabilities: [String] = []
    public var droppedCapabilities: [String] = []
    /// Root keeps all capabilities, whatever the configuration says.
    public var keepsPrivileges = false
    public var dropsPrivileges = false
    public var allowsSetuid = false
    public var securityUser: UInt32?
    public var securityGroups: [UInt32] = []
    public var securityLabel: SecurityLabel?
    /// A filter of system calls, as a JSON file of the OCI's form.
    public var seccompProfile: String?

    // MARK: Devices

    public var nvidia = false
    public var nvidiaCLI = false
    public var rocm = false
    public var cdiDevices: [String] = []
    public var cdiFolders: [String] = []
    /// Files to show among the libraries of drivers.
    public var containedLibraries: [String] = []
    public var fuseMounts: [FuseMountSpec] = []

    // MARK: Life

    public var limits = ResourceLimits()
    /// The host's scheduler can be asked from within.
    public var scheduler = false
    /// What can be asked of it; found by the launcher.
    var hostCommands: HostCommands?
    /// Where the container is told what the host calls users and groups; decided by the launcher.
    var hostNames: HostNames.Place?
    /// Root's /sbin/init of the image.
    public var boots = false
    /// What the container shall be known as, where it stays in the background.
    public var instance: InstanceSettings?

    public init(image: String, action: Action) {
        self.image = image
        self.action = action
    }
}

/// A label that a Linux security module puts on the program.
public enum SecurityLabel: Sendable, Equatable {
    case selinux(String)
    case apparmor(String)
}

extension RunOptions {
    /// Programs can change files of the container's root.
    var isWritten: Bool { writable || writableTmpfs || overlays.contains { !$0.isReadOnly } }

    /// With the overlay partitions of an image: they are laid over it, and the writable one is written to with --writable.
    func adding(_ image: ImageFile) -> RunOptions {
        guard !image.overlays.isEmpty else { return self }
        var options = self
        let writable = writable ? image.overlays.last(where: \.isWritable)?.object : nil
        options.overlays.insert(
            contentsOf: image.overlays.map { Overlay(embedded: $0.object, in: image.path, isReadOnly: $0.object != writable) }, at: 0)
        return options
    }
}
