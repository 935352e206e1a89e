import Linux

/// What ends at once: a resource manager kills the processes of a job or step together, and what is kept for a container must not
/// be that of another job.
enum JobScope {
    static var text: String {
        var parts: [String] = []
        if let text = try? Files.readText("/proc/self/cgroup", limit: 1 << 16) {
            // Slurm has a group for each task of a step; the step is what ends as a whole.
            parts = text.split(separator: "\n").map { line in
                guard let range = line.lastIndex(of: "/"), line[range...].hasPrefix("/task_") else { return String(line) }
                return String(line[..<range])
            }
        }
        for name in ["SLURM_JOB_ID", "SLURM_STEP_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID", "FLUX_JOB_ID"] {
            if let value = Environment[name] { parts.append("\(name)=\(value)") }
        }
        return parts.joined(separator: ";")
    }
}
