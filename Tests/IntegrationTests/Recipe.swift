import Foundation
import Testing

/// Builds of definition files in a folder of their own, with a cache of their own.
struct Recipe {
    let scratch: Scratch
    var identity: Builder = .recorded

    /// The ways to be root in a section.
    enum Builder: String, CaseIterable, Sendable {
        /// Root of the host.
        case root
        /// An ordinary user with ranges in /etc/subuid.
        case ranges
        /// An ordinary user with a single id.
        case recorded

        /// Those that can be had here.
        static let possible: [Builder] = {
            if !Site.isRoot { return Site.mayFUSE ? [.recorded] : [] }
            return Site.mayFUSE ? allCases : [.root]
        }()
    }

    init(_ identity: Builder = .recorded, name: String = #function) throws {
        scratch = try Scratch(name)
        self.identity = identity
    }

    /// A small image with a shell, made once for all tests.
    static let busybox: Result<String, any Error> = Result {
        let recipe = try Recipe(Site.isRoot ? .root : .recorded, name: "busybox")
        let result = try recipe.build("busybox.sif", "Bootstrap: busybox\nMirrorURL: /bin/busybox\n")
        try #require(result.status == 0, "\(result)")
        let path = Site.folder + "/busybox.sif"
        try FileManager.default.copyItem(atPath: recipe.file("busybox.sif"), toPath: path)
        chmod(path, 0o755)
        return path
    }

    /// A header that starts from the small image.
    static var header: String {
        get throws { "Bootstrap: localimage\nFrom: \(try busybox.get())\n" }
    }

    func file(_ name: String) -> String { scratch.file(name) }

    /// Runs `singularity build` on a recipe with this text.
    func build(_ target: String, _ text: String, options: [String] = [], environment: [String: String] = [:]) throws -> Run {
        let name = "recipe-\(abs(text.hashValue)).def"
        try scratch.write(name, Array(text.utf8))
        return try run(["build"] + options + [target, name], environment: environment)
    }

    /// Runs the program in the folder, as the builder.
    func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Run {
        var arguments = arguments
        if identity == .recorded, arguments.first == "build" { arguments.insert("--ignore-subuid", at: 1) }
        return try Run.program(
            Site.program, arguments, as: identity == .root ? .caller : .ordinaryUser, environment: variables(environment), in: scratch.path)
    }

    func variables(_ more: [String: String] = [:]) -> [String: String] {
        ["SINGULARITY_CACHEDIR": file("cache"), "TMPDIR": scratch.path].merging(more) { _, new in new }
    }

    /// Mode, owner and name of all that is in an image, below `path`.
    func listing(_ image: String, _ path: String = "") throws -> [String] {
        let script = """
            unsquashfs -lln -o "$1" "$2" | awk '{ if ($1 ~ /^[bc]/) print $1, $2, $3 $4, $7; else print $1, $2, $6 }'
            """
        let result = try Run.program("/bin/sh", ["-c", script, "sh", try Site.offset(of: file(image)), file(image)])
        try #require(result.status == 0, "\(result)")
        return result.output.split(separator: "\n").map { $0.replacingOccurrences(of: "squashfs-root", with: "") }.filter {
            path.isEmpty || $0.hasSuffix(" \(path)") || $0.contains(" \(path)/")
        }
    }

    /// What a file in an image says.
    func text(_ image: String, _ path: String) throws -> String {
        try Run.program(Site.program, ["exec", "--no-home", file(image), "cat", path], as: identity == .root ? .caller : .ordinaryUser)
            .output
    }

    /// Folders of sections that are left in the temporary directory.
    var leftovers: [String] { scratch.names.filter { $0.hasPrefix("singularity-build-") || $0.contains(".part") } }
}
