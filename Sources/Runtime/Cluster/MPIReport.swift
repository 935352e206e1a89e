import Glibc
import Linux

/// Whether an image's MPI program will run as one job under what this host starts jobs with: `explain mpi`.
public struct MPIReport {
    public struct Line: Sendable {
        public var subject: String
        public var text: String
    }

    public private(set) var lines: [Line] = []
    /// What will not work; empty where all will.
    public private(set) var problems: [String] = []
    /// What works less well than it could.
    public private(set) var notes: [String] = []
    /// A command line that works, where one was found.
    public private(set) var advice: String?

    /// - Throws: where the image cannot be opened.
    public init(image path: String, keys: ImageKeys, _ facts: HostFacts) throws {
        let image = try ImageFile.open(path, workingDirectory: facts.workingDirectory, keys: keys)
        if case .ext = image.content {
            throw RuntimeError.badImage(path, why: "an ext3 image cannot be looked into before it is mounted; build a SIF of it")
        }
        let root = SharedDescriptor(try OwnedDescriptor.open("/", O_RDONLY | O_DIRECTORY))
        let host = ImageFile(path: "/", content: .directory(root))
        var environment: [String: String] = [:]
        for (name, value) in facts.environment where environment[name] == nil { environment[name] = value }
        self.init(
            name: path, image: ImageLibraries(RootView(image)), host: ImageLibraries(RootView(host)), environment: environment,
            slurm: MPILauncher.slurm()?.names, interconnects: Interconnect.ofHost)
    }

    /// - Parameter slurm: the plug-ins of this host's srun; nil where there is none.
    package init(
        name: String, image: ImageLibraries, host: ImageLibraries, environment: [String: String],
        slurm: [String]?, interconnects: [Interconnect]
    ) {
        let own = MPILibrary(image)
        let others = MPILibrary(host)
        add("MPI in the image", own.map(Self.text) ?? "none")
        if let own {
            add("it is started by", own.management.isEmpty ? "nothing but its own mpirun" : Self.text(own.management, own.pmixVersion))
        }
        add("MPI of the host", others.map(Self.text) ?? "none")
        let launcher = MPILauncher(environment)
        if let launcher {
            let part = launcher.ranks.map { " of \($0) ranks" } ?? ""
            add(
                "this process",
                "started by \(launcher.name)\(part), "
                    + (launcher.management.isEmpty
                        ? "without telling the ranks of each other" : "with \(Self.text(launcher.management, nil))"))
        }
        if let slurm { add("srun", "--mpi=" + slurm.joined(separator: "|")) }
        add("fast network", interconnects.isEmpty ? "none found: nodes talk over TCP" : interconnects.map(\.name).joined(separator: "; "))
        guard let own else {
            problems.append("the image has no MPI library that the loader would find: install one of the host's kind in it")
            return
        }
        if let launcher {
            if let problem = Self.problem(own, launcher) { problems.append(problem) }
        } else if let slurm {
            judge(own, slurm, name)
        } else if let others {
            judge(own, others, name)
        } else {
            advice = "singularity exec \(name) mpirun -n 4 PROGRAM"
            notes.append("neither Slurm nor an MPI is on this host: only the image's own mpirun can start ranks, on this host")
        }
        for network in interconnects {
            let missing = network.missing(in: image)
            if !missing.isEmpty {
                notes.append("\(network.name) is not used: the image lacks \(missing.joined(separator: " and ")); nodes talk over TCP")
            }
        }
    }

    private mutating func add(_ subject: String, _ text: String) { lines.append(Line(subject: subject, text: text)) }

    // MARK: Verdicts

    /// What is wrong where a launcher has started processes; nil where it knows how to tell them of each other.
    static func problem(_ own: MPILibrary, _ launcher: MPILauncher) -> String? {
        if !own.management.isDisjoint(with: launcher.management) { return nil }
        let wanted = own.management.isEmpty ? "nothing but its own mpirun" : text(own.management, nil)
        let means = launcher.management.isEmpty ? "nothing" : text(launcher.management, nil)
        let remedy =
            launcher.name == "srun"
            ? "; give srun --mpi=\(plugin(own, nil) ?? "TYPE") (`srun --mpi=list` shows what there is), or install another MPI in the image"
            : "; use the launcher of the image's kind, or install the launcher's kind in the image"
        return
            "\(own.family.rawValue) in the image is started by \(wanted), and \(launcher.name) offers \(means): each rank would be a job of its own, or fail"
            + remedy
    }

    /// srun's word for something that a library understands.
    private static func plugin(_ own: MPILibrary, _ names: [String]?) -> String? {
        if own.management.contains(.pmix) {
            guard let names else { return "pmix" }
            if let found = names.first(where: { $0 == "pmix" }) ?? names.first(where: { $0.hasPrefix("pmix") }) { return found }
        }
        if own.management.contains(.pmi2) || own.management.contains(.pmi1) {
            guard let names else { return "pmi2" }
            return ["pmi2", "cray_shasta"].first(where: names.contains)
        }
        return nil
    }

    private mutating func judge(_ own: MPILibrary, _ slurm: [String], _ name: String) {
        if let plugin = Self.plugin(own, slurm) {
            advice = "srun --mpi=\(plugin) -n 4 singularity exec \(name) PROGRAM"
        } else {
            problems.append(
                "\(own.family.rawValue) in the image is started by \(Self.text(own.management, nil)), and this host's srun has \(slurm.joined(separator: ", ")): each rank would be a job of its own"
            )
        }
    }

    private mutating func judge(_ own: MPILibrary, _ host: MPILibrary, _ name: String) {
        guard own.family == host.family else {
            problems.append(
                "mpirun of the host is \(host.family.rawValue)'s, and the image has \(own.family.rawValue): each rank would be a job of its own; install \(host.family.rawValue) in the image, or use the image's own: singularity exec \(name) mpirun"
            )
            return
        }
        advice = "mpirun -n 4 singularity exec \(name) PROGRAM"
        func first(_ version: String?) -> Substring? { version?.split(separator: ".").first }
        if let one = first(own.version), let other = first(host.version), one != other {
            notes.append(
                "the versions differ much (\(own.version ?? "") and \(host.version ?? "")): PMIx talks across them, other plug-ins do not")
        }
    }

    // MARK: Texts

    private static func text(_ library: MPILibrary) -> String {
        "\(library.family.rawValue)\(library.version.map { " " + $0 } ?? ""), \(library.path) (\(library.soname))"
    }

    private static func text(_ management: Set<ProcessManagement>, _ pmix: String?) -> String {
        if management.isEmpty { return "its own mpirun alone" }
        return management.sorted().map { $0 == .pmix && pmix != nil ? "PMIx \(pmix ?? "")" : $0.rawValue }.joined(separator: ", ")
    }
}

extension MPIReport {
    /// A warning for the first of many ranks that would each be a job of its own; nil where all is well, or nothing can be said.
    /// Costs nothing but a look at variables where this process is not the first of several.
    static func warning(_ environment: [(name: String, value: String)], _ view: @autoclosure () -> RootView) -> String? {
        guard environment.contains(where: { $0.name == "SLURM_STEP_NUM_TASKS" && $0.value != "1" }),
            environment.contains(where: { $0.name == "SLURM_PROCID" && $0.value == "0" })
        else { return nil }
        var values: [String: String] = [:]
        for (name, value) in environment where values[name] == nil { values[name] = value }
        guard let launcher = MPILauncher(values), let own = MPILibrary(ImageLibraries(view()), looksForVersions: false) else { return nil }
        return problem(own, launcher)
    }
}
