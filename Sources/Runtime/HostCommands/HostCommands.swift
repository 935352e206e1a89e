import Glibc
import Linux

/// Commands of the host's scheduler that programs in a container may call: `--scheduler`.
///
/// They run on the host, where their libraries, their configuration and munge's socket are; a container of any distribution can
/// call them. What they do there is done with all rights of the caller: a job is not confined by the container that has
/// submitted it.
package struct HostCommands: Sendable {
    /// In the container.
    static let folder = "/.singularity.d/host"
    static let socket = folder + "/socket"
    private static let program = folder + "/singularity"
    private static let loader = folder + "/loader"
    /// Where their names are shown.
    private static let commandFolder = "/usr/bin"

    /// Of Slurm, PBS, LSF, Grid Engine, HTCondor and Flux.
    private static let known = [
        "sbatch", "srun", "salloc", "squeue", "scancel", "sinfo", "sacct", "scontrol", "sstat", "sprio", "sshare", "sacctmgr", "sattach",
        "sbcast", "qsub", "qstat", "qdel", "qalter", "qhold", "qrls", "qmove", "pbsnodes", "bsub", "bjobs", "bkill", "bhosts", "bqueues",
        "bpeek", "bhist", "qacct", "qconf", "qhost", "condor_submit", "condor_q", "condor_rm", "condor_status", "condor_history", "flux",
    ]

    /// Beginnings of the variables that commands get from the container; all others are those of the host.
    private static let variables = [
        "SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SINFO_", "SCANCEL_", "SACCT_", "PBS_", "LSB_", "LSF_", "SGE_", "_CONDOR_",
        "FLUX_",
    ]

    /// Names and paths on the host.
    let paths: [String: String]
    /// Of the host, at the container's start.
    let environment: [(name: String, value: String)]

    /// Those that are in the caller's PATH.
    package init(_ facts: HostFacts) {
        environment = facts.environment
        let folders = (facts.environment.first { $0.name == "PATH" }?.value ?? "").split(separator: ":").map(String.init)
        var paths: [String: String] = [:]
        for name in Self.known {
            for folder in folders where folder.hasPrefix("/") {
                let path = "\(folder)/\(name)"
                guard access(path, X_OK) == 0, !Files.isDirectory(path) else { continue }
                paths[name] = path
                break
            }
        }
        self.paths = paths
    }

    /// The variables of a command: the host's, with what the container says of the scheduler.
    package static func environment(host: [(name: String, value: String)], container: [(name: String, value: String)]) -> [(
        name: String, value: String
    )] {
        let taken = container.filter { one in variables.contains { one.name.hasPrefix($0) } }
        let names = Set(taken.map(\.name))
        return host.filter { !names.contains($0.name) } + taken
    }

    // MARK: What the container sees

    /// Files of the host for the container, and where they are shown.
    /// - Parameter place: of the server's files on the host.
    func mounts(_ place: Place) throws(RuntimeError) -> [(source: String, destination: String)] {
        var out = [(place.socket, Self.socket), (try Self.ownPath(), Self.program)]
        for (source, name) in try Self.libraries() { out.append((source, "\(Self.folder)/\(name)")) }
        return out + paths.keys.sorted().map { (place.script, "\(Self.commandFolder)/\($0)") }
    }

    private static func ownPath() throws(RuntimeError) -> String {
        guard let path = Files.readLink("/proc/self/exe") else {
            throw .step("--scheduler: finding this program's file", SystemError.last("/proc/self/exe"), hint: "")
        }
        return path
    }

    /// What this program needs from the C library, so that it runs in a container that has another one: the loader, and
    /// libraries by the names that it looks for.
    private static func libraries() throws(RuntimeError) -> [(source: String, name: String)] {
        do {
            let root = SharedDescriptor(try OwnedDescriptor.open("/", O_RDONLY | O_DIRECTORY))
            let host = ImageLibraries(RootView(ImageFile(path: "/", content: .directory(root))))
            guard let own = RootFile(try OwnedDescriptor.open("/proc/self/exe")).flatMap({ SharedObject($0) }) else {
                throw SystemError("read /proc/self/exe", errno: ENOEXEC)
            }
            var out: [(String, String)] = []
            for name in own.needed {
                guard let path = host.path(of: name).flatMap({ Files.resolved($0) }) else {
                    throw SystemError("find the library \(name)", errno: ENOENT)
                }
                out.append((path, name.hasPrefix("ld-linux") ? "loader" : name))
            }
            return out
        } catch { throw .badOption("--scheduler: this program's own libraries cannot be shown in the container: \(error)") }
    }

    /// What a command is in the container: a script for the image's shell, which starts this program with the host's loader.
    static let script = """
        #!/bin/sh
        exec \(loader) --library-path \(folder) \(program) host-run "${0##*/}" "$@"

        """

    /// The server's files on the host.
    struct Place {
        let socket: String
        var script: String { socket + ".sh" }

        /// - Returns: nil where this user can have no directory for them.
        init?(_ process: pid_t) {
            guard let folder = RuntimeFolder.prepare() else { return nil }
            socket = "\(folder)/host-\(process)"
        }

        /// Removes them.
        func clear() {
            unlink(socket)
            unlink(script)
            RuntimeFolder.removeIfEmpty()
        }
    }
}
