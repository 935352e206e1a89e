import Foundation
import Testing

/// Where the tests run: what `scripts/test.sh` has prepared.
enum Site {
    static let repository = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .path
    static let program = repository + "/.build/release/singularity"
    static let fixtures = repository + "/Tests/Fixtures"
    /// A folder that everybody may enter, removed when all tests are done.
    static let folder = ProcessInfo.processInfo.environment["SINGULARITY_TEST_FOLDER"] ?? ""
    /// `127.0.0.1:port` of a real registry that has `debian:latest`.
    static let registry = ProcessInfo.processInfo.environment["SINGULARITY_TEST_REGISTRY"] ?? ""
    /// An account that is not root's, where the tests run as root.
    static let user = ProcessInfo.processInfo.environment["SINGULARITY_TEST_USER"] ?? ""

    static var isPrepared: Bool { !folder.isEmpty && !registry.isEmpty }
    static let isRoot = getuid() == 0
    static let mayFUSE = ProcessInfo.processInfo.environment["SINGULARITY_TEST_FUSE"] == "1"

    /// Configuration of a Slurm that runs for the tests; empty where there is none.
    static let slurm = ProcessInfo.processInfo.environment["SINGULARITY_TEST_SLURM"] ?? ""

    /// A folder with workflow engines of PyPI; empty where there are none.
    static let clients = ProcessInfo.processInfo.environment["SINGULARITY_TEST_CLIENTS"] ?? ""

    /// A SIF of the Debian image, made once for all tests.
    static let debian: Result<String, any Error> = Result {
        let path = folder + "/debian.sif"
        let result = try Run.singularity(
            "build", path, "docker://\(registry)/debian:latest", environment: ["SINGULARITY_CACHEDIR": folder + "/cache-debian"])
        try #require(result.status == 0, "\(result.error)")
        chmod(path, 0o755)
        return path
    }
}

extension Site {
    /// An image of the Debian image and packages of Debian, for tests that share it.
    /// - Parameters:
    ///   - name: of its folder.
    ///   - packages: for apt-get.
    ///   - files: lines of %files.
    ///   - more: lines of %post, and further sections.
    static func image(_ name: String, packages: String, files: [String] = [], more: String = "") throws -> String {
        let path = "\(folder)/\(name)/\(name)"
        try FileManager.default.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        let recipe = """
            Bootstrap: localimage
            From: \(try debian.get())
            %files
            \(files.joined(separator: "\n"))
            %post
                apt-get -qq update
                DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \(packages) >/dev/null
            \(more)

            """
        try recipe.write(toFile: path + ".def", atomically: true, encoding: .utf8)
        let built = try Run.singularity(
            "build", path + ".sif", path + ".def", environment: ["SINGULARITY_CACHEDIR": "\(folder)/\(name)/cache"])
        try #require(built.status == 0, "\(built)")
        chmod(path + ".sif", 0o644)
        return path + ".sif"
    }
}

extension Site {
    /// Where the file system of a SIF begins, bytes.
    static func offset(of image: String) throws -> String {
        let list = try Run.singularity("sif", "list", image).output
        let line = try #require(list.split(separator: "\n").first { $0.contains("Squashfs") })
        let place = try #require(line.split(separator: "|").dropFirst(3).first)
        return place.prefix { $0 != "-" }.trimmingCharacters(in: .whitespaces)
    }
}

/// A folder of one test, which goes away with it.
final class Scratch {
    let path: String

    init(_ name: String = #function) throws {
        let base = name.prefix { $0 != "(" }
        path = "\(Site.folder)/\(base)-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        chmod(path, 0o777)
    }

    deinit {
        if ProcessInfo.processInfo.environment["SINGULARITY_TEST_KEEP"] != nil { return }
        // Unpacked trees may have directories that forbid their owner to change them.
        _ = try? Run.program("/bin/chmod", ["-R", "u+rwx", path])
        try? FileManager.default.removeItem(atPath: path)
    }

    func file(_ name: String) -> String { path + "/" + name }

    /// Names in the folder.
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: URL(filePath: file(name)))
        chmod(file(name), 0o644)
        return file(name)
    }
}
