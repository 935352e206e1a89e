import Glibc
import Linux
import Registry

/// Images of a running Docker, by its own program.
enum DockerDaemon {
    /// Saves the image to the cache and opens it there.
    static func open(_ name: String, _ options: FetchOptions) throws -> OCIImage {
        let id = try run(["docker", "image", "inspect", "--format", "{{.Id}}", name], name)
        guard let digest = Digest(id.prefix { !$0.isWhitespace }) else {
            throw BuildError.badSource("docker-daemon:\(name)", why: "docker does not name it by a digest (\(id.prefix(80)))")
        }
        let folder = options.cacheFolder + "/daemon"
        try Files.makeDirectories(folder, mode: 0o700)
        let file = "\(folder)/\(digest.hex).tar"
        if Files.status(file) == nil {
            let part = "\(file).\(getpid()).part"
            defer { unlink(part) }
            _ = try run(["docker", "image", "save", "--output", part, name], name)
            guard rename(part, file) == 0 else { throw SystemError.last("rename to \(file)") }
        }
        return try DockerArchive.open(file, platform: options.pull.platform)
    }

    private static func run(_ words: [String], _ name: String) throws -> String {
        let result: ChildProcess.Result
        do { result = try ChildProcess.run(words) } catch {
            throw BuildError.badSource(
                "docker-daemon:\(name)",
                why: "the program docker, which is asked for it, cannot be run (\(error)); install the package docker.io")
        }
        guard result.status == 0 else {
            throw BuildError.badSource("docker-daemon:\(name)", why: "docker has no such image, or is not running (its message is above)")
        }
        return String(decoding: result.output, as: UTF8.self)
    }
}
