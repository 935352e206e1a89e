/// What shall run in a container, as the user said it.
public struct RunOptions: Sendable {
    public enum Action: Sendable, Equatable {
        /// A program and its arguments.
        case exec([String])
        /// The image's run script.
        case run([String])
        case test([String])
        /// A shell; the text is `--shell`.
        case shell(String?)

        /// The value of SINGULARITY_COMMAND.
        var name: String {
            switch self {
            case .exec: "exec"
            case .run: "run"
            case .test: "test"
            case .shell: "shell"
            }
        }
    }

    public var image: String
    public var action: Action
    public var binds: [BindSpec] = []
    /// Minimal /dev, empty home and /tmp, no working directory.
    public var contain = false
    /// ``contain`` with PID and IPC namespaces and a clean environment.
    public var containAll = false
    public var cleanEnvironment = false
    /// Names and values of --env, in order.
    public var environment: [(name: String, value: String)] = []
    public var environmentFiles: [String] = []
    /// --pwd
    public var workingDirectory: String?
    public var writableTmpfs = false
    /// Changes go into a sandbox directory.
    public var writable = false
    public var newPID = false
    /// No PID namespace, whatever other options imply.
    public var forbidsPID = false
    public var newIPC = false
    public var newUTS = false
    public var hostName: String?
    /// A network without any interface but the loopback one.
    public var isolateNetwork = false
    public var newUser = false
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

    public init(image: String, action: Action) {
        self.image = image
        self.action = action
    }
}
