import Foundation
import Linux

/// What is known of an instance: a small JSON file, with the keys of the peers and some more.
///
/// It is a hint and no more: before anything is done to a process, its owner and the time of its start are compared.
public struct InstanceRecord: Codable, Sendable {
    /// Number of the first process of the container, as the host counts.
    public var pid: Int32
    /// Number of its supervisor.
    public var ppid: Int32
    public var name: String
    public var user: String
    public var image: String
    /// Settings for those who join, as base64 of JSON (``Settings``).
    public var config: String
    public var userns: Bool
    public var cgroup: Bool
    public var ip: String
    public var logErrPath: String
    public var logOutPath: String
    public var checkpoint: String = ""
    public var sharensMode: Bool = false
    /// Ticks since boot at which ``pid`` started; a number that is used again is told by it.
    public var startTime: UInt64
    /// The boot that it counts from.
    public var bootID: String
    /// Directory of the control group; empty where there is none.
    public var cgroupPath: String = ""
    /// The containers with which it shares a private network.
    public var group: String?

    /// What joins and the unit file need.
    public struct Settings: Codable, Sendable {
        /// In the container.
        public var home: String
        public var isFakeRoot: Bool
        /// The command line that started it, without the program.
        public var command: [String]
        public var workingDirectory: String
        /// Files of each log.
        public var logFiles: Int?
    }

    public var settings: Settings? {
        guard let data = Data(base64Encoded: config) else { return nil }
        return try? JSONDecoder().decode(Settings.self, from: data)
    }

    static func encoded(_ settings: Settings) -> String {
        ((try? JSONEncoder().encode(settings)) ?? Data()).base64EncodedString()
    }

    public static var currentBoot: String {
        ((try? Files.readText("/proc/sys/kernel/random/boot_id")) ?? "").split(separator: "\n").first.map(String.init) ?? ""
    }

    /// Whether its first process runs.
    public var isAlive: Bool { bootID == Self.currentBoot && ProcessStart.time(of: pid) == startTime }
}

/// The instances of a user on this host.
public struct InstanceStore: Sendable {
    /// `~/.singularity` or its like.
    private let folder: String
    public let user: String
    private let host: String

    public init(configuration folder: String, user: String) {
        self.folder = folder
        self.user = user
        var buffer = [CChar](repeating: 0, count: 256)
        gethostname(&buffer, 255)
        host = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Whether a text can be an instance's name: it is part of paths.
    public static func isName(_ text: String) -> Bool {
        !text.isEmpty && text != "." && text != ".." && text.utf8.count <= 128
            && text.utf8.allSatisfy {
                ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7a || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2e || $0 == 0x5f || $0 == 0x2d
            }
    }

    private var records: String { "\(folder)/instances/sing/\(host)/\(user)" }
    private var logs: String { "\(folder)/instances/logs/\(host)/\(user)" }

    struct LogPaths {
        var errors: String
        var output: String
    }

    func logPaths(_ name: String) -> LogPaths { LogPaths(errors: "\(logs)/\(name).err", output: "\(logs)/\(name).out") }

    /// The file of a ``HealthReport``.
    func healthPath(_ name: String) -> String { "\(records)/\(name)/health.json" }

    /// What the last checks of an instance's health have found; nil where none are made.
    public func health(of record: InstanceRecord) -> HealthReport? { HealthReport(path: healthPath(record.name)) }

    /// Makes the directories.
    func prepare() throws(SystemError) {
        for path in [records, logs] { try Files.makeDirectories(path, mode: 0o700) }
    }

    /// Reserves a name, which belongs to whoever made its directory.
    /// - Returns: false where it is taken by one that runs.
    func reserve(_ name: String) throws(SystemError) -> Bool {
        for _ in 0..<2 {
            if mkdir("\(records)/\(name)", 0o700) == 0 { return true }
            guard errno == EEXIST else { throw .last("mkdir \(records)/\(name)") }
            if let record = read(name) {
                if record.isAlive { return false }
            } else if let status = Files.status("\(records)/\(name)"), time(nil) - status.st_mtim.tv_sec < 30 {
                // It is being started by somebody else.
                return false
            }
            remove(name)
        }
        return false
    }

    func write(_ record: InstanceRecord) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        try Files.replace("\(records)/\(record.name)/\(record.name).json", with: Array(try encoder.encode(record)), mode: 0o644)
    }

    func remove(_ name: String) {
        unlink("\(records)/\(name)/\(name).json")
        unlink(healthPath(name))
        rmdir("\(records)/\(name)")
    }

    private func read(_ name: String) -> InstanceRecord? {
        let path = "\(records)/\(name)/\(name).json"
        // Somebody else's file, or a link to one, says nothing about this user's instances.
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK),
            let status = try? Files.status(file.rawValue, name: path), status.st_mode & S_IFMT == S_IFREG,
            status.st_uid == getuid() || getuid() == 0, let bytes = try? Files.read(file, name: path, limit: 1 << 20),
            let record = try? JSONDecoder().decode(InstanceRecord.self, from: Data(bytes)), record.name == name, record.pid > 1
        else { return nil }
        return record
    }

    /// Those that run, by name; what others have left behind is removed.
    /// - Parameter pattern: with `*` and `?`, nil for all.
    public func running(_ pattern: String? = nil) -> [InstanceRecord] {
        var out: [InstanceRecord] = []
        for name in ((try? Files.entries(records)) ?? []).sorted() where Self.isName(name) {
            guard let record = read(name) else { continue }
            if !record.isAlive {
                remove(name)
            } else if pattern.map({ fnmatch($0, name, 0) == 0 }) ?? true {
                out.append(record)
            }
        }
        return out
    }

    /// One that runs.
    /// - Throws: ``RuntimeError/badOption(_:)``
    public func find(_ name: String) throws(RuntimeError) -> InstanceRecord {
        guard Self.isName(name) else { throw .badOption("\(name) is not the name of an instance: use letters, digits, '.', '_' and '-'") }
        guard let record = read(name), record.isAlive else {
            throw .badOption("no instance found with name \(name); `singularity instance list` shows those that run")
        }
        return record
    }
}
