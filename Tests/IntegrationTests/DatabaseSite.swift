import Foundation
import Testing

/// A real database server that runs as an instance, and keeps its files where a test wants them.
final class DatabaseSite {
    enum Server: String, CaseIterable { case postgres, mariadb }

    /// Where the files are.
    enum Place: CaseIterable {
        /// In a data container.
        case data
        /// In one that is encrypted.
        case encrypted
        /// In the writable partition of the image.
        case partition
    }

    /// An image with both servers of Debian's packages, made once.
    static let image: Result<String, any Error> = Result {
        try Site.image(
            "databases", packages: "postgresql mariadb-server", files: ["\(Site.fixtures)/serve-database.sh /usr/local/bin/serve-database"],
            more: "mkdir -p /srv/database\n%startscript\nexec sh /usr/local/bin/serve-database \"$@\"")
    }

    static let folder = "/srv/database"

    let scratch: Scratch
    let server: Server
    let place: Place
    let identity: Run.Identity
    /// The file that is written to.
    private(set) var file: String
    private let name = "db"

    init(_ server: Server, _ place: Place, as identity: Run.Identity, _ test: String = #function) throws {
        scratch = try Scratch(test)
        (self.server, self.place, self.identity) = (server, place, identity)
        file = scratch.file(place == .partition ? "image.sif" : "db.sif")
        try scratch.write("phrase", Array("hunter2\n".utf8))
        switch place {
        case .data: try must(["data", "create", file])
        case .encrypted: try must(["data", "create"] + key + [file])
        case .partition:
            let copied = try Run.program("/bin/cp", [try Self.image.get(), file], as: identity)
            try #require(copied.status == 0, "\(copied)")
            try must(["overlay", "create", file])
        }
    }

    deinit { kill() }

    private var key: [String] { place == .encrypted ? ["--passphrase-file", scratch.file("phrase")] : [] }

    func run(_ words: [String], timeout: Double = 60) throws -> Run {
        try Run.program(
            Site.program, words, as: identity, environment: ["SINGULARITY_CONFIGDIR": scratch.file("conf")], in: scratch.path,
            timeout: timeout)
    }

    @discardableResult
    func must(_ words: [String], timeout: Double = 60) throws -> Run {
        let result = try run(words, timeout: timeout)
        try #require(result.status == 0, "\(words): \(result)")
        return result
    }

    /// Starts the server and waits until it answers.
    func start() throws {
        let words =
            place == .partition
            ? ["instance", "start", "--writable", file]
            : ["instance", "start"] + key + ["--data", "\(file):\(Self.folder)", try Self.image.get()]
        try must(words + [name, server.rawValue])
        let isUp = Wait.until(40) { (try? query("SELECT 1").status) == 0 }
        let log = isUp ? "" : "\(try run(["instance", "logs", "--stderr", name])) \(try run(["instance", "logs", name]))"
        try #require(isUp, "\(log)")
    }

    private var client: [String] {
        switch server {
        case .postgres:
            ["/usr/lib/postgresql/\(Self.version)/bin/psql", "-U", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", Self.folder]
        case .mariadb: ["mariadb", "-NBn", "-u", "root", "-S", Self.folder + "/socket", "mysql"]
        }
    }

    /// Debian's PostgreSQL has its version in its paths.
    private static let version: String = {
        let result = try? Run.singularity("exec", (try? image.get()) ?? "", "ls", "/usr/lib/postgresql")
        return result?.output.split(separator: "\n").first.map(String.init) ?? ""
    }()

    func query(_ text: String) throws -> Run {
        try run(["exec", "instance://" + name] + client + [server == .postgres ? "-c" : "-e", text])
    }

    /// Begins to insert 1, 2, 3, ... in transactions of their own, and prints each when it is acknowledged.
    func startInserting() throws -> Run.Live {
        try #require(try query("CREATE TABLE t (i INT PRIMARY KEY)").status == 0)
        let said = server == .postgres ? "\\\\echo %d\\n" : "SELECT %d;\\n"
        let feed = "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); printf 'INSERT INTO t VALUES (%d);\\n\(said)' $i $i; done"
        return try Run.start(
            Site.program,
            ["exec", "instance://" + name, "sh", "-c", "(\(feed)) | " + client.map { "'\($0)'" }.joined(separator: " ")], as: identity,
            environment: ["SINGULARITY_CONFIGDIR": scratch.file("conf")], in: scratch.path)
    }

    /// The last number that was acknowledged.
    static func acknowledged(_ inserting: Run.Live) -> Int {
        let lines = inserting.printed().split(separator: "\n", omittingEmptySubsequences: false)
        return lines.dropLast().last.flatMap { Int($0) } ?? 0
    }

    /// A load beside the inserts, for PostgreSQL.
    func startLoad() throws -> Run.Live {
        let bench = ["exec", "instance://" + name, "/usr/lib/postgresql/\(Self.version)/bin/pgbench", "-U", "postgres", "-h", Self.folder]
        try must(bench + ["-i", "-q", "-s", "1", "postgres"])
        return try Run.start(
            Site.program, bench + ["-c", "2", "-T", "60", "-n", "postgres"], as: identity,
            environment: ["SINGULARITY_CONFIGDIR": scratch.file("conf")], in: scratch.path)
    }

    /// Numbers up to a limit that are not there.
    func missing(upTo limit: Int) throws -> Int {
        let result = try query("SELECT COUNT(*) FROM t WHERE i <= \(limit)")
        return limit - (try #require(Int(result.output.split(separator: "\n").last ?? ""), "\(result)"))
    }

    /// The first process of the instance.
    func firstProcess() throws -> pid_t {
        let list = try must(["instance", "list", name]).output.split(separator: "\n")
        return try #require(list.dropFirst().first?.split(separator: " ").dropFirst().first.flatMap { pid_t($0) })
    }

    /// The process that serves the file.
    func fileServer() throws -> pid_t { try #require(Processes.living(named: "singularity-fs", with: file).last) }

    func stop() throws {
        try must(["instance", "stop", name])
        #expect(Wait.until(20) { Processes.living(named: "singularity-fs", with: file).isEmpty })
    }

    func kill() {
        _ = try? run(["instance", "stop", "--signal", "KILL", name])
        _ = Wait.until(20) { Processes.living(named: "singularity-fs", with: file).isEmpty }
    }

    func check() throws -> Run { try run([place == .partition ? "overlay" : "data", "check"] + key + [file]) }

    /// Where a copy of the file is made.
    var copy: String { scratch.file("copy.sif") }

    /// Goes on with the copy of the file.
    func useCopy() { file = copy }
}
