import CLinux
import Glibc
import Linux
import Messages

/// The start of an instance: a process that stays in the background, and the one that waits until it is ready.
public struct InstanceStart: Sendable {
    private let store: InstanceStore
    private let settings: InstanceSettings
    private let record: InstanceRecord
    /// Gets one byte when the program runs, or nothing where it doesn't.
    private let ready: CInt
    /// Gets reports of the instance's health, where it is checked.
    let healthFile: CInt

    static let isReady: UInt8 = 1

    /// Starts an instance and returns when its program runs.
    /// - Parameters:
    ///   - options: with ``RunOptions/instance``.
    ///   - command: the command line, for those who want to start it again.
    ///   - launch: becomes the container.
    /// - Returns: an exit status.
    public static func start(
        _ options: RunOptions, _ facts: HostFacts, in store: InstanceStore, command: [String], _ log: Log,
        launch: (InstanceStart) throws -> Never
    ) throws -> Int32 {
        guard let settings = options.instance else { return 1 }
        let name = settings.name
        guard InstanceStore.isName(name) else {
            throw RuntimeError.badOption("\(name) is not a name for an instance: use letters, digits, '.', '_' and '-'")
        }
        try store.prepare()
        guard try store.reserve(name) else { throw RuntimeError.badOption("instance \(name) already exists") }
        var isStarted = false
        defer { if !isStarted { store.remove(name) } }
        let output = try InstanceOutput(store.logPaths(name), settings.logLimit)
        let health = try OwnedDescriptor.open(store.healthPath(name), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        let healthFile = health.rawValue
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw SystemError.last("pipe") }
        let identity = try RunIdentity.choose(options, facts)
        let record = InstanceRecord(
            pid: 0, ppid: 0, name: name, user: store.user,
            image: options.image.hasPrefix("/") ? options.image : "\(facts.workingDirectory ?? "")/\(options.image)",
            config: "", userns: identity.isUserNamespace, cgroup: false, ip: "", logErrPath: output.paths.errors,
            logOutPath: output.paths.output,
            startTime: 0, bootID: InstanceRecord.currentBoot)
        let start = InstanceStart(
            store: store, settings: settings, record: Self.with(record, options, facts, command), ready: ends[1], healthFile: healthFile)
        let child = try Process.fork {
            close(ends[0])
            setsid()
            let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
            dup2(null, 0)
            dup2(output.output, 1)
            dup2(output.errors, 2)
            // Whoever waits for the end of what the caller has left open must not wait for the instance.
            Process.closeDescriptors(except: [ends[1], healthFile])
            do { try launch(start) } catch {
                log.fatal("\(error)")
                _exit(255)
            }
        }
        output.close()
        close(ends[1])
        var byte: UInt8 = 0
        let count = retryingOnInterrupt { read(ends[0], &byte, 1) }
        close(ends[0])
        guard count == 1, byte == isReady else {
            Process.wait(for: child)
            try? Files.writeAll(output.complaint(), to: 2, name: "standard error")
            throw RuntimeError.badOption(
                "failed to start the instance \(name); its output is in \(output.paths.output) and \(output.paths.errors)")
        }
        isStarted = true
        return 0
    }

    private static func with(_ record: InstanceRecord, _ options: RunOptions, _ facts: HostFacts, _ command: [String]) -> InstanceRecord {
        var record = record
        let settings = InstanceRecord.Settings(
            home: options.home?.destination ?? (options.fakeRoot ? "/root" : facts.account?.home ?? "/"), isFakeRoot: options.fakeRoot,
            command: command, workingDirectory: facts.workingDirectory ?? "/", logFiles: options.instance?.logLimit?.files)
        record.config = InstanceRecord.encoded(settings)
        record.group = options.group
        return record
    }

    // MARK: For the supervisor

    /// The first process of the container is there.
    func begun(_ child: pid_t, address: String?, group: ControlGroup?) {
        close(ready)
        var record = record
        record.pid = child
        record.ppid = getpid()
        record.startTime = ProcessStart.time(of: child) ?? 0
        record.ip = address ?? ""
        record.cgroupPath = group?.path ?? ""
        record.cgroup = group != nil
        try? store.write(record)
        if let path = settings.pidFile {
            unlink(path)
            if let file = try? OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o644) {
                try? Files.writeAll(Array("\(child)\n".utf8), to: file.rawValue, name: path)
            }
        }
        clinux_set_title(CommandLine.unsafeArgv, "Singularity instance: \(record.user) [\(record.name)]")
    }

    /// The container has ended.
    func ended() {
        store.remove(record.name)
        if let path = settings.pidFile { unlink(path) }
    }

    // MARK: For the container's first process

    /// Keeps a descriptor that must not be closed until the program runs.
    var descriptor: CInt { ready }

    /// The program runs.
    func tellReady() {
        var byte = Self.isReady
        _ = write(ready, &byte, 1)
        close(ready)
    }
}
