import Build
import CommandSyntax
import Compression
import Glibc
import Linux
import Registry
import SquashFS

/// Options that `build` and `pull` share, and what they mean.
enum ImageWriting {
    static let options = [
        OptionSpec(
            "compression", nil, .value("name"), "compressor of the image: zstd, gzip, xz or lz4 (default zstd)",
            environment: ["COMPRESSION"]),
        OptionSpec("level", nil, .value("number"), "compression level", environment: ["COMPRESSION_LEVEL"]),
        OptionSpec("block-size", nil, .value("bytes"), "bytes of a compressed block, a power of two from 4096 to 1048576 (default 131072)"),
        OptionSpec(
            "mksquashfs-args", nil, .value("text"), "options of mksquashfs that say the same: -comp, -Xcompression-level, -b, -processors",
            environment: ["MKSQUASHFS_ARGS"]),
        OptionSpec("no-sbom", nil, .flag, "write no bills of materials into the image", environment: ["NO_SBOM"]),
        OptionSpec(
            "processors", nil, .value("number"), "threads that compress (default: all that this process may use)",
            environment: ["PROCESSORS"]),
    ]

    static func options(_ parsed: ParsedArguments) throws -> Build.ImageOptions {
        let other = try MksquashfsArguments(parsed["mksquashfs-args"] ?? "")
        let name = parsed["compression"] ?? other.compression ?? "zstd"
        guard let compressor = Compressor(name: name), compressor.levels != nil else {
            throw CommandError("--compression \(name): choose zstd, gzip, xz or lz4")
        }
        var writer = WriterOptions(compressor: compressor, threads: MachineLimits.processors)
        if let text = parsed["level"] ?? other.level {
            guard let level = Int(text), let levels = compressor.levels, levels.contains(level) else {
                throw CommandError(
                    "--level \(text): \(name) has the levels \(compressor.levels.map { "\($0.lowerBound) to \($0.upperBound)" } ?? "")")
            }
            writer.level = level
        }
        if let text = parsed["block-size"] ?? other.blockSize {
            guard let size = ByteCount.bytes(text).flatMap({ Int(exactly: $0) }), size.nonzeroBitCount == 1,
                (4096...(1 << 20)).contains(size)
            else {
                throw CommandError("--block-size \(text): give a power of two from 4096 to 1048576")
            }
            writer.blockSize = size
        }
        if let text = parsed["processors"] ?? other.processors {
            guard let count = Int(text), count > 0 else { throw CommandError("--processors \(text): give a number from 1 on") }
            writer.threads = min(count, MachineLimits.processors)
        }
        var image = Build.ImageOptions(writer: writer, latestTime: try sourceDateEpoch())
        image.listsContents = !parsed.has("no-sbom")
        return image
    }

    /// SOURCE_DATE_EPOCH, see reproducible-builds.org.
    private static func sourceDateEpoch() throws -> Int64? {
        guard let text = Environment["SOURCE_DATE_EPOCH"], !text.isEmpty else { return nil }
        guard let time = Int64(text), time >= 0 else { throw CommandError("SOURCE_DATE_EPOCH=\(text) is not a number of seconds") }
        return time
    }
}

/// Options of mksquashfs(1) that scripts pass on; those that change what is in the image are refused.
struct MksquashfsArguments {
    var compression: String?
    var level: String?
    var blockSize: String?
    var processors: String?

    /// Without a meaning here: the first two are always so, the others are about mksquashfs's own work.
    private static let ignored: Set<String> = ["-noappend", "-no-progress", "-quiet", "-info", "-no-recovery", "-exports", "-no-exports"]

    init(_ text: String) throws {
        var words = text.split(separator: " ").map(String.init)[...]
        while let word = words.popFirst() {
            if Self.ignored.contains(word) { continue }
            guard ["-comp", "-Xcompression-level", "-b", "-processors", "-mem"].contains(word) else {
                throw CommandError(
                    "--mksquashfs-args \(word): this program has no such option; it knows -comp, -Xcompression-level, -b, -processors and -mem"
                )
            }
            guard let value = words.popFirst() else { throw CommandError("--mksquashfs-args \(word) needs a value") }
            switch word {
            case "-comp": compression = value
            case "-Xcompression-level": level = value
            case "-b": blockSize = value
            case "-processors": processors = value
            // Memory is bounded without it.
            default: break
            }
        }
    }
}

/// Options on where images come from, and what they mean.
enum ImageFetching {
    /// Who asks a registry, and how.
    static let loginOptions = [
        OptionSpec(
            "no-https", nil, .flag, "use http where the registry has no https", aliases: ["nohttps"], environment: ["NOHTTPS", "NO_HTTPS"]),
        OptionSpec("authfile", nil, .value("path"), "file with registry credentials, of Docker's form", environment: ["AUTH_FILE"]),
        OptionSpec("docker-login", nil, .flag, "ask for a user name and password for the registry", environment: ["DOCKER_LOGIN"]),
        OptionSpec("docker-username", nil, .value("name"), "user name for the registry", environment: ["DOCKER_USERNAME"], hidden: true),
        OptionSpec("docker-password", nil, .value("text"), "password for the registry", environment: ["DOCKER_PASSWORD"], hidden: true),
        OptionSpec(
            "tmpdir", nil, .value("path"), "accepted; nothing is unpacked to a temporary directory", environment: ["TMPDIR"], hidden: true),
    ]

    static let options =
        loginOptions + [
            OptionSpec(
                "arch", nil, .value("name"), "architecture of the image, such as amd64 or arm64", environment: ["PULL_ARCH", "BUILD_ARCH"]),
            OptionSpec("arch-variant", nil, .value("name"), "variant of the architecture, such as v7", environment: ["PULL_ARCH_VARIANT"]),
            OptionSpec("platform", nil, .value("os/arch"), "platform of the image, such as linux/arm64", environment: ["PLATFORM"]),
            OptionSpec("library", nil, .value("url"), "address of the container library for library://", environment: ["LIBRARY"]),
            OptionSpec("disable-cache", nil, .flag, "keep nothing of what is downloaded", environment: ["DISABLE_CACHE"]),
            OptionSpec("offline", nil, .flag, "use what is in the cache and never ask the network", environment: ["OFFLINE"]),
        ]

    static func platform(_ parsed: ParsedArguments) throws -> Platform {
        if let text = parsed["platform"] {
            guard let platform = Platform(text) else { throw CommandError("--platform \(text): give os/arch or os/arch/variant") }
            return platform
        }
        let variant = parsed["arch-variant"] ?? ""
        if let text = parsed["arch"] {
            guard let platform = Platform(archOption: text) else { throw CommandError("--arch \(text) is not a known architecture") }
            return variant.isEmpty ? platform : Platform(architecture: platform.architecture, variant: variant)
        }
        var name = utsname()
        uname(&name)
        let machine = withUnsafeBytes(of: &name.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return Platform(architecture: machine, variant: variant)
    }

    static func credentials(_ parsed: ParsedArguments) throws -> CredentialStore {
        var explicit: Credential?
        if parsed.has("docker-login") {
            explicit = try askForCredential()
        } else if let user = parsed["docker-username"] ?? Environment["DOCKER_USERNAME"],
            let password = parsed["docker-password"] ?? Environment["DOCKER_PASSWORD"], !user.isEmpty
        {
            explicit = .basic(user: user, password: password)
        }
        return CredentialStore(
            explicit: explicit, authFile: parsed["authfile"], loginFile: UserFolders.configuration + "/docker-config.json",
            home: UserFolders.home)
    }

    private static func askForCredential() throws -> Credential {
        guard isatty(0) != 0 else {
            throw CommandError(
                "--docker-login asks on a terminal, and there is none: set SINGULARITY_DOCKER_USERNAME and SINGULARITY_DOCKER_PASSWORD")
        }
        Program.printError("Enter Docker Username: ")
        let user = readLine() ?? ""
        let password = try Terminal.askSecret(
            "Enter Docker Password: ", instead: "set SINGULARITY_DOCKER_USERNAME and SINGULARITY_DOCKER_PASSWORD")
        return .basic(user: user, password: password.withBytes { String(decoding: $0, as: UTF8.self) })
    }
}

/// Where the user's files are.
enum UserFolders {
    /// `$HOME`, or the home of the password file where a job starts with an empty environment.
    static var home: String {
        if let home = Environment["HOME"], home.hasPrefix("/") { return home }
        return getpwuid(getuid()).map { String(cString: $0.pointee.pw_dir) } ?? "/"
    }

    static var configuration: String { Environment.setting("CONFIGDIR") ?? home + "/.singularity" }

    static var cache: String { (Environment.setting("CACHEDIR") ?? configuration) + "/cache" }
}
