import Linux

/// What ends at once: a resource manager kills the processes of a job or step together, and what is kept for a container must not
/// be that of another job.
enum JobScope {
    static var text: String {
        var scope = ""
        for line in ((try? Files.readText("/proc/self/cgroup", limit: 1 << 16)) ?? "").split(separator: "\n") {
            // Slurm has a group for each task of a step; the step is what ends as a whole.
            let slash = line.lastIndex(of: "/") ?? line.endIndex
            scope += "\(line[slash...].hasPrefix("/task_") ? line[..<slash] : line);"
        }
        for name in ["SLURM_JOB_ID", "SLURM_STEP_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "FLUX_JOB_ID"] {
            if let value = Environment[name] { scope += "\(name)=\(value);" }
        }
        return scope
    }
}
