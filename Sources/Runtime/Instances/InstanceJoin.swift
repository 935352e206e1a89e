import Glibc
import Linux
import Messages

/// Runs a program in an instance.
public struct InstanceJoin {
    private let record: InstanceRecord
    private let options: RunOptions
    private let facts: HostFacts
    private let log: Log

    public init(_ record: InstanceRecord, _ options: RunOptions, _ facts: HostFacts, _ log: Log) {
        self.record = record
        self.options = options
        self.facts = facts
        self.log = log
    }

    /// Ends as the program ends.
    public func execute() throws -> Never {
        let instance = try InstanceProcess(record, uid: facts.uid)
        let settings = record.settings
        if !record.cgroupPath.isEmpty { try? ControlGroup.write("0", record.cgroupPath + "/cgroup.procs") }
        let namespaces = instance.namespaces(of: [.user, .mount, .pid, .ipc, .uts, .network])
        guard !namespaces.isEmpty else {
            throw RuntimeError.badOption("the instance \(record.name) has no namespaces that could be joined")
        }
        try instance.join(namespaces)
        guard chdir("/") == 0 else { throw SystemError.last("chdir /") }
        let supervisor = Supervisor(server: nil, network: nil, host: nil, address: nil, group: nil, instance: nil, log: log)
        try supervisor.run(newPID: false) {
            do { try become(settings) } catch {
                log.fatal("\(error)")
                _exit(255)
            }
        } afterFork: {
        }
    }

    private func become(_ settings: InstanceRecord.Settings?) throws -> Never {
        let root = SharedDescriptor(try OwnedDescriptor.open("/", O_RDONLY | O_DIRECTORY))
        let view = RootView(ImageFile(path: record.image, content: .directory(root)))
        var options = options
        options.instance = InstanceSettings(name: record.name)
        let home = settings?.home ?? facts.account?.home ?? "/"
        let plan = EnvironmentPlan(options, facts, home: home, image: record.image, bindDestinations: [])
        var environment = Launcher.scripts(plan, view)
        environment.workingDirectory = try enterWorkingDirectory(home)
        umask(mode_t(options.noUmask ? 0o022 : facts.umask))
        let isRoot = facts.uid == 0 && !record.userns
        try Process.forbidNewPrivileges()
        try (isRoot || settings?.isFakeRoot ?? false ? CapabilitySet.full.intersection(.effective) : []).apply()
        try Payload(action: options.action, environment: environment, log: log).execute()
    }

    private func enterWorkingDirectory(_ home: String) throws(RuntimeError) -> String {
        if let path = options.workingDirectory {
            guard chdir(path) == 0, let found = Files.workingDirectory, found.hasPrefix("/") else {
                throw .noDirectory(path, SystemError.last("").reason)
            }
            return found
        }
        for path in [facts.workingDirectory, home, "/"].compactMap({ $0 }) where chdir(path) == 0 {
            if let found = Files.workingDirectory, found.hasPrefix("/") { return found }
        }
        return "/"
    }
}
