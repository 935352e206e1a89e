import Glibc
import Linux

/// Where an instance's standard output and standard error go; for the process that starts it.
struct InstanceOutput {
    let paths: InstanceStore.LogPaths
    let output: CInt
    let errors: CInt
    /// The process that writes the logs, where they have a limit.
    private let keeper: pid_t?
    /// Bytes in the log of errors before the start.
    private let before: off_t

    init(_ paths: InstanceStore.LogPaths, _ limit: LogLimit?) throws {
        self.paths = paths
        func open(_ path: String) throws(SystemError) -> OwnedDescriptor {
            try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, mode: 0o644)
        }
        let errors = try open(paths.errors)
        let output = try open(paths.output)
        before = lseek(errors.rawValue, 0, SEEK_END)
        guard let limit else {
            (self.output, self.errors, keeper) = (output.release(), errors.release(), nil)
            return
        }
        let logs = [RotatedLog(paths.output, output, limit), RotatedLog(paths.errors, errors, limit)]
        let (process, ends) = try LogKeeper.start(logs)
        for log in logs { Glibc.close(log.descriptor) }
        (self.output, self.errors, keeper) = (ends[0], ends[1], process)
    }

    /// Lets the instance alone write.
    func close() {
        Glibc.close(output)
        Glibc.close(errors)
    }

    /// What an instance that could not be started has said on standard error.
    func complaint() -> [UInt8] {
        // Without a PID namespace, something that has been left behind may still hold the log.
        if let keeper { for _ in 0..<200 where waitpid(keeper, nil, WNOHANG) == 0 { usleep(5000) } }
        guard let file = try? OwnedDescriptor.open(paths.errors, O_RDONLY | O_NOFOLLOW) else { return [] }
        // A log that was begun anew is all of this instance.
        lseek(file.rawValue, lseek(file.rawValue, 0, SEEK_END) >= before ? before : 0, SEEK_SET)
        return (try? Files.read(file, name: paths.errors, limit: 1 << 20)) ?? []
    }
}
