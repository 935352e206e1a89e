import Linux

/// The variables of the program in the container, as far as they are known before the image's scripts have spoken.
public struct EnvironmentPlan: Sendable {
    public struct Variable: Sendable, Equatable {
        public var name: String
        public var value: String
        /// Where it comes from, for people.
        public var origin: String
    }

    /// Set before the image's scripts run, which may change them.
    public var initial: [Variable] = []
    /// Set behind the image's scripts: --env, SINGULARITYENV_.
    public var injected: [Variable] = []
    /// The host's, where the image does not define them.
    public var inherited: [Variable] = []
    public var prependPath: String?
    public var appendPath: String?
    public var path: String?
    /// Injected values are expanded once more.
    public var evaluates = true
    /// Path of the container's `SINGULARITY_SHELL`-like settings.
    public var app = ""

    public static let defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    /// The directory of libraries that are bound from the host.
    static let libraries = "/.singularity.d/libs"
    static let prompt = "Singularity> "

    private static let prefixes = ["APPTAINERENV_", "SINGULARITYENV_"]
    private static let cleanKept: Set<String> = [
        "TERM", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY",
        "ftp_proxy", "FTP_PROXY",
    ]

    /// - Parameters:
    ///   - home: of the container.
    ///   - image: absolute path.
    ///   - bindDestinations: of the user's binds.
    init(_ options: RunOptions, _ facts: HostFacts, home: String, image: String, bindDestinations: [String]) {
        evaluates = !options.noEval
        app = options.app
        let clean = options.cleanEnvironment || options.containAll
        fixed(options, home: home, image: image, bindDestinations: bindDestinations)
        takeHost(facts.environment.filter { !options.withheldVariables.contains($0.name) }, clean: clean)
        var seen: [String: Int] = [:]
        for prefix in Self.prefixes.reversed() {
            for (name, value) in facts.environment where name.hasPrefix(prefix) {
                inject(String(name.dropFirst(prefix.count)), value, origin: name, &seen)
            }
        }
        for (name, value) in options.environment { inject(name, value, origin: "--env", &seen) }
    }

    private mutating func fixed(_ options: RunOptions, home: String, image: String, bindDestinations: [String]) {
        func add(_ name: String, _ value: String) { initial.append(Variable(name: name, value: value, origin: "launcher")) }
        let name = image.split(separator: "/").last.map(String.init) ?? image
        for prefix in ["SINGULARITY_", "APPTAINER_"] {
            add(prefix + "CONTAINER", image)
            add(prefix + "NAME", name)
            add(prefix + "BIND", bindDestinations.joined(separator: ","))
            add(prefix + "ENVIRONMENT", "/.singularity.d/env/91-environment.sh")
            add(prefix + "COMMAND", options.action.name)
            add(prefix + "APPNAME", options.app)
            if options.noEval { add(prefix + "NO_EVAL", "1") }
            if case .shell(let shell?, _) = options.action { add(prefix + "SHELL", shell) }
            if let instance = options.instance { add(prefix + "INSTANCE", instance.name) }
        }
        add("HOME", home)
    }

    private mutating func takeHost(_ environment: [(name: String, value: String)], clean: Bool) {
        for (name, value) in environment {
            guard Self.isName(name), !name.hasPrefix("SINGULARITY_"), !name.hasPrefix("APPTAINER_"),
                !Self.prefixes.contains(where: name.hasPrefix),
                !["HOME", "PATH", "LD_LIBRARY_PATH", "PS1", "PROMPT_COMMAND", "_"].contains(name),
                !clean || Self.cleanKept.contains(name)
            else { continue }
            inherited.append(Variable(name: name, value: value, origin: "host"))
        }
        if clean {
            inherited.append(Variable(name: "LANG", value: "C", origin: "--cleanenv"))
        } else if let path = environment.first(where: { $0.name == "PATH" })?.value {
            initial.append(
                Variable(
                    name: "USER_PATH", value: path + ":/bin:/usr/bin:/sbin:/usr/sbin:/usr/local/bin:/usr/local/sbin",
                    origin: "host PATH"))
        }
    }

    private mutating func inject(_ name: String, _ value: String, origin: String, _ seen: inout [String: Int]) {
        switch name {
        case "PREPEND_PATH": prependPath = value
        case "APPEND_PATH": appendPath = value
        case "PATH": path = value
        case "HOME", "UID", "GID", "SINGULARITY_SHELL", "SINGULARITY_APPNAME": break
        default:
            guard Self.isName(name) else { return }
            let variable = Variable(name: name, value: value, origin: origin)
            if let index = seen[name] {
                injected[index] = variable
            } else {
                seen[name] = injected.count
                injected.append(variable)
            }
        }
    }

    static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else { return false }
        return text.utf8.allSatisfy {
            $0 == UInt8(ascii: "_") || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0 | 0x20)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
        }
    }
}
