import Glibc

/// The commands of the host's scheduler, which a process outside runs.
extension LaunchPlanner {
    mutating func addScheduler() throws(RuntimeError) {
        guard let commands = options.hostCommands, !commands.paths.isEmpty, let place = HostCommands.Place(getpid()) else {
            warnings.append("--scheduler: no command of a scheduler is in PATH on this host")
            return
        }
        for (source, destination) in try commands.mounts(place) {
            bind(
                source, destination, readOnly: source != place.socket, isRequired: true,
                reason: source == place.script ? "runs on the host (--scheduler)" : "for commands that run on the host (--scheduler)")
        }
    }
}
