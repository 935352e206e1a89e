import Linux

/// What starts the ranks of an MPI program: that of the job that this process is in.
package struct MPILauncher {
    /// `srun`, `mpirun` and the like.
    package var name: String
    /// What it tells its processes by.
    package var management: Set<ProcessManagement>
    /// How many processes it has started; nil where it does not say.
    package var ranks: Int?

    /// The one that has started this process; nil where none has.
    /// - Parameter environment: of this process.
    package init?(_ environment: [String: String]) {
        var management: Set<ProcessManagement> = []
        if environment["PMIX_RANK"] != nil { management.insert(.pmix) }
        if environment["FLUX_TASK_RANK"] != nil { management.insert(.flux) }
        if environment["PMI_FD"] != nil || environment["PMI_PORT"] != nil { management.formUnion([.pmi1, .pmi2]) }
        let slurm = environment["SLURM_STEP_ID"] != nil && environment["SLURM_PROCID"] != nil
        // Slurm's older library finds what it needs without a descriptor.
        if slurm, environment["SLURM_MPI_TYPE"] == "pmi2" { management.formUnion([.pmi1, .pmi2]) }
        func number(_ names: [String]) -> Int? { names.lazy.compactMap { environment[$0].flatMap { Int($0) } }.first }
        ranks = number(["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "FLUX_JOB_SIZE"])
        self.management = management
        if environment["OMPI_COMM_WORLD_SIZE"] != nil {
            name = "mpirun of Open MPI"
        } else if slurm {
            name = "srun"
        } else if environment["FLUX_TASK_RANK"] != nil {
            name = "flux run"
        } else if !management.isEmpty {
            name = environment["HYDRA_CONTROL_FD"] == nil && environment["PMI_FD"] == nil ? "a launcher" : "mpiexec of MPICH"
        } else {
            return nil
        }
    }

    /// The plug-ins of this host's srun: what they understand, and what they are called.
    package static func slurm() -> (management: Set<ProcessManagement>, names: [String])? {
        // Sites have it anywhere. It is printed on either stream, one name a line, with a headline.
        guard let result = try? ChildProcess.run(["srun", "--mpi=list"], errors: .inOutput) else { return nil }
        return plugins(String(decoding: result.output, as: UTF8.self))
    }

    /// What `srun --mpi=list` prints.
    package static func plugins(_ text: String) -> (management: Set<ProcessManagement>, names: [String])? {
        // A name a line, and the list of what is available; other lines are headlines and messages.
        let words = text.split(separator: "\n").flatMap { line -> [String] in
            let isList = line.contains("available:")
            let names = (isList ? line.drop { $0 != ":" }.dropFirst() : line).split { $0 == " " || $0 == "\t" || $0 == "," }
            return isList || names.count == 1 ? names.map(String.init) : []
        }
        let known = words.filter { ["none", "pmi2", "cray_shasta"].contains($0) || $0.hasPrefix("pmix") }
        guard !known.isEmpty else { return nil }
        var management: Set<ProcessManagement> = []
        for name in known {
            if name.hasPrefix("pmix") { management.insert(.pmix) }
            if name == "pmi2" || name == "cray_shasta" { management.formUnion([.pmi1, .pmi2]) }
        }
        return (management, known)
    }
}
