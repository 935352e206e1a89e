import Foundation
import Testing

/// A folder of one test, and the program in it, with a configuration directory of its own, so that no other test's instances
/// are seen.
final class Place {
    let scratch: Scratch
    let identity: Run.Identity

    init(_ name: String = #function, as identity: Run.Identity = .ordinaryUser) throws {
        scratch = try Scratch(name)
        self.identity = identity
    }

    deinit { _ = try? run("instance", "stop", "--all", "--force") }

    private var variables: [String: String] { ["SINGULARITY_CONFIGDIR": scratch.file("conf")] }

    @discardableResult
    func run(_ words: String..., environment: [String: String] = [:]) throws -> Run { try run(words, environment: environment) }

    func run(_ words: [String], environment: [String: String] = [:], timeout: Double = 120) throws -> Run {
        try Run.program(
            Site.program, words, as: identity, environment: environment.merging(variables) { one, _ in one }, in: scratch.path,
            timeout: timeout)
    }

    /// Runs what has to succeed.
    /// - Returns: its output.
    @discardableResult
    func must(_ words: String...) throws -> String { try must(words) }

    @discardableResult
    func must(_ words: [String]) throws -> String {
        let result = try run(words)
        try #require(result.status == 0, "\(words): \(result)")
        return result.output
    }

    func start(_ words: String...) throws -> Run.Live { try start(words) }

    func start(_ words: [String]) throws -> Run.Live {
        try Run.start(Site.program, words, as: identity, environment: variables, in: scratch.path)
    }

    /// A copy of the Debian image that belongs to the user.
    func image(_ name: String = "image.sif") throws -> String {
        let copied = try Run.program("/bin/cp", [try Site.debian.get(), scratch.file(name)], as: identity)
        try #require(copied.status == 0, "\(copied)")
        return name
    }

    func text(_ image: String, _ path: String, options: [String] = []) throws -> String {
        try run(["exec"] + options + [image, "cat", path]).output
    }

    /// Bytes on disk.
    func blocks(_ name: String) -> Int {
        var status = stat()
        return stat(scratch.file(name), &status) == 0 ? Int(status.st_blocks) * 512 : 0
    }

    /// Number of an instance's first process.
    func pid(_ name: String) throws -> pid_t {
        let lines = try run("instance", "list").output.split(separator: "\n").map { $0.split(separator: " ") }
        let line = try #require(lines.first { $0.first.map(String.init) == name })
        return try #require(pid_t(line[1]))
    }
}
