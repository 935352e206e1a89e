import Build
import CommandSyntax
import Glibc
import Linux
import Registry

let cacheCommands = [
    Command(
        spec: CommandSpec(
            "cache list", arguments: "", summary: "List what is in the cache",
            options: [
                OptionSpec("type", "T", .list("names"), "blob, oci, rootfs, build or packages (default all)"),
                OptionSpec("verbose", "v", .flag, "print a line for each file"),
            ], argumentCount: 0...0)
    ) { parsed, log in
        let entries = try CacheEntry.all(parsed.all("type"))
        if parsed.has("verbose") || log.level >= .verbose { print(CacheEntry.table(entries)) }
        print(CacheEntry.summary(entries), terminator: "")
        return 0
    },
    Command(
        spec: CommandSpec(
            "cache clean", arguments: "", summary: "Remove what is in the cache",
            details: """
                Removes downloaded layers, images that were made to run an address, and unpacked copies. What another \
                process uses at this moment is kept.
                """,
            options: [
                OptionSpec("older-than", nil, .value("time"), "only what was not used for so long, such as 12h, 30d or 4w"),
                OptionSpec("days", "D", .value("number"), "only what is older than so many days"),
                OptionSpec("dry-run", "n", .flag, "print what would be removed"),
                OptionSpec("force", "f", .flag, "do not ask"),
                OptionSpec("type", "T", .list("names"), "blob, oci, rootfs, build or packages (default all)"),
            ], argumentCount: 0...0)
    ) { parsed, log in
        let age = try leastAge(parsed)
        let entries = try CacheEntry.all(parsed.all("type"))
        let isDryRun = parsed.has("dry-run")
        if isDryRun { print("This is a dry run: nothing is removed.") }
        if !isDryRun, !parsed.has("force") {
            guard isatty(0) != 0 else {
                throw CommandError("cache clean asks before it removes anything, and there is no terminal: use --force")
            }
            Program.printError(
                "This will delete everything in your cache (containers from all sources and OCI blobs).\nDo you want to continue? [N/y] ")
            guard readLine()?.lowercased() == "y" else { return 0 }
        }
        let old = entries.filter { time(nil) - $0.created >= age }
        if isDryRun {
            for entry in old { print(entry.path) }
            return 0
        }
        func report(_ entry: CacheEntry, isRemoved: Bool) {
            if isRemoved { log.info("Removing \(entry.path)") } else { log.warning("\(entry.path) is in use and has been kept") }
        }
        for entry in old where entry.kind != .blob { report(entry, isRemoved: entry.remove()) }
        // Blobs are in use, all of them, as long as anybody fetches or builds.
        let blobs = old.filter { $0.kind == .blob }
        if blobs.isEmpty { return 0 }
        let isUnused = BlobCache.whenUnused(UserFolders.cache + "/blob") { for blob in blobs { Files.removeTree(blob.path) } }
        for blob in blobs { report(blob, isRemoved: isUnused) }
        return 0
    },
]

/// Seconds of `--days` or `--older-than`.
private func leastAge(_ parsed: ParsedArguments) throws -> Int {
    if let text = parsed["older-than"] {
        let units = ["m": 60, "h": 3600, "d": 86400, "w": 7 * 86400]
        guard let last = text.last, let unit = units[String(last)], let number = Int(text.dropLast()), number >= 0 else {
            throw CommandError("--older-than \(text): give a number with m, h, d or w behind it, such as 30d")
        }
        return number * unit
    }
    let days = parsed["days"] ?? "0"
    guard let age = Int(days), age >= 0 else { throw CommandError("--days \(days): give a number of days") }
    return age * 86400
}

/// One thing in the cache.
struct CacheEntry {
    enum Kind: String, CaseIterable {
        /// Layers and documents of registries.
        case blob
        /// Images that were made of addresses.
        case image = "oci"
        /// Unpacked copies.
        case copy = "rootfs"
        /// What sections of definition files have changed.
        case layer = "build"
        /// What package managers have downloaded in sections, a directory a recipe.
        case packages

        /// Notes for people stand beside each of them.
        var hasNotes: Bool { self == .layer || self == .packages }
    }

    let kind: Kind
    let path: String
    /// Bytes.
    let size: Int64
    /// Unix seconds.
    let created: Int

    /// - Parameter types: names of kinds; none for all.
    static func all(_ types: [String]) throws -> [CacheEntry] {
        var kinds = Set<Kind>()
        for type in types {
            switch type {
            case "all": kinds.formUnion(Kind.allCases)
            case "oci-tmp": kinds.insert(.image)
            // Sources of the peers that this program does not have.
            case "library", "shub", "oras", "net": break
            default:
                guard let kind = Kind(rawValue: type) else {
                    throw CommandError("--type \(type): choose of \(Kind.allCases.map(\.rawValue).joined(separator: ", ")) and all")
                }
                kinds.insert(kind)
            }
        }
        return (types.isEmpty ? Kind.allCases : Kind.allCases.filter(kinds.contains)).flatMap(entries)
    }

    private static func entries(_ kind: Kind) -> [CacheEntry] {
        let root = UserFolders.cache
        let folders: [String] =
            switch kind {
            case .blob: ["/blob/blobs/sha256", "/blob/blobs/sha512", "/blob/leases", "/blob/tags"]
            case .image: ["/oci-tmp"]
            case .copy: ["/rootfs"]
            case .layer: ["/build", "/build/digests", "/build/sandboxes"]
            case .packages: ["/packages"]
            }
        return folders.flatMap { folder in
            ((try? Files.entries(root + folder)) ?? []).sorted().compactMap { name in
                let path = root + folder + "/" + name
                // What stands beside a layer goes with it.
                let isBeside = kind.hasNotes && LayerCache.isBesideLayer(name)
                guard !isBeside, !name.hasSuffix(".lease"), !["digests", "sandboxes"].contains(name),
                    let status = Files.status(path, followLinks: false)
                else {
                    return nil
                }
                let isDirectory = status.st_mode & S_IFMT == S_IFDIR
                return CacheEntry(
                    kind: kind, path: path, size: isDirectory ? treeSize(path) : Int64(status.st_size), created: status.st_mtim.tv_sec)
            }
        }
    }

    private static func treeSize(_ path: String) -> Int64 {
        var total: Int64 = 0
        for name in (try? Files.entries(path)) ?? [] {
            guard let status = Files.status(path + "/" + name, followLinks: false) else { continue }
            total += status.st_mode & S_IFMT == S_IFDIR ? treeSize(path + "/" + name) : Int64(status.st_size)
        }
        return total
    }

    /// Removes what is no blob.
    /// - Returns: false where somebody uses it.
    func remove() -> Bool {
        func removeNow() {
            Files.removeTree(path)
            if kind.hasNotes { LayerCache.removeNotes(of: path) }
        }
        // An open image stays readable without its name.
        if kind == .image {
            removeNow()
            return true
        }
        return FileLock.whenUnused(path, removeNow)
    }

    // MARK: Text

    /// Which line of which recipe a layer is of.
    private var note: String {
        guard let note = LayerCache.note(of: path) else { return "" }
        return "  " + note
    }

    static func table(_ entries: [CacheEntry]) -> String {
        func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }
        var lines = [padded("NAME", 25) + padded("DATE CREATED", 23) + padded("SIZE", 17) + "TYPE"]
        for entry in entries {
            let name = String((entry.path.split(separator: "/").last ?? "").prefix(22))
            var seconds = entry.created
            var parts = tm()
            localtime_r(&seconds, &parts)
            var buffer = [CChar](repeating: 0, count: 32)
            strftime(&buffer, 32, "%Y-%m-%d %H:%M:%S", &parts)
            let date = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            lines.append(padded(name, 25) + padded(date, 23) + padded(ByteCount.text(entry.size), 17) + entry.kind.rawValue + entry.note)
        }
        return lines.joined(separator: "\n") + "\n"
    }

    static func summary(_ entries: [CacheEntry]) -> String {
        let blobs = entries.filter { $0.kind == .blob }
        let images = entries.filter { $0.kind == .image || $0.kind == .copy }
        let layers = entries.filter { $0.kind == .layer && $0.path.hasSuffix(".sqfs") }
        func size(_ list: [CacheEntry]) -> Int64 { list.reduce(0) { $0 + $1.size } }
        let layerLine =
            layers.isEmpty ? "" : "\nThere are \(layers.count) build layer(s) using \(ByteCount.text(size(layers))) of space"
        return """
            There are \(images.count) container file(s) using \(ByteCount.text(size(images))) and \(blobs.count) oci blob file(s) using \(ByteCount.text(size(blobs))) of space\(layerLine)
            Total space used: \(ByteCount.text(size(entries)))

            """
    }
}
