import Definition
import Glibc
import Linux

/// Builds of a Dockerfile by a program of the host that can: buildah, or buildctl with a running BuildKit.
struct DockerfileBuild {
    /// The directory whose files the Dockerfile may take.
    let context: String
    let file: String
    let target: String?
    /// `NAME=value` of `ARG`s.
    let arguments: [String]

    init(_ header: Header) throws {
        guard let from = header["from"] else {
            throw BuildError.refused("bootstrap: \(header.agent) needs a line \"From: directory\" that names the build's context")
        }
        guard Files.isDirectory(from) else { throw BuildError.badSource(from, why: "the context of a Dockerfile must be a directory") }
        context = from
        let name = header["filename"] ?? "Dockerfile"
        file = name.hasPrefix("/") ? name : "\(from)/\(name)"
        guard Files.status(file) != nil else { throw BuildError.badSource(file, why: "there is no such Dockerfile") }
        target = header["target"]
        arguments = (header["buildargs"] ?? "").split(whereSeparator: { $0 == " " || $0 == "," }).map(String.init)
    }

    /// Builds the image into an OCI archive.
    func write(_ archive: String) throws {
        for folder in ["/usr/bin", "/usr/local/bin", "/bin"] {
            if access("\(folder)/buildah", X_OK) == 0 { return try buildah("\(folder)/buildah", archive) }
            if access("\(folder)/buildctl", X_OK) == 0 { return try buildctl("\(folder)/buildctl", archive) }
        }
        throw BuildError.refused(
            "a Dockerfile is built by buildah or buildctl, and this host has neither: install the package buildah, or BuildKit")
    }

    private func buildah(_ program: String, _ archive: String) throws {
        // Kept by that name, so that the program finds its layers again.
        let name = "localhost/singularity-\(LayerKey(base: Files.resolved(file) ?? file).text.prefix(16))"
        var words = [program, "build", "--isolation", "chroot", "--layers", "--file", file, "--tag", name]
        if let target { words += ["--target", target] }
        for argument in arguments { words += ["--build-arg", argument] }
        try run(words + [context])
        try run([program, "push", "--quiet", name, "oci-archive:\(archive)"])
    }

    private func buildctl(_ program: String, _ archive: String) throws {
        let slash = file.lastIndex(of: "/") ?? file.startIndex
        var words = [
            program, "build", "--frontend", "dockerfile.v0", "--local", "context=\(context)", "--local",
            "dockerfile=\(slash == file.startIndex ? "." : String(file[..<slash]))", "--opt",
            "filename=\(file[file.index(after: slash)...])",
        ]
        if let target { words += ["--opt", "target=\(target)"] }
        for argument in arguments { words += ["--opt", "build-arg:\(argument)"] }
        try run(words + ["--output", "type=oci,dest=\(archive)"])
    }

    private func run(_ words: [String]) throws {
        let result = try ChildProcess.run(words, showsOutput: true)
        guard result.status == 0 else {
            throw BuildError.badSource(file, why: "\(words[0]) could not build it (exit status \(result.status); its messages are above)")
        }
    }
}
