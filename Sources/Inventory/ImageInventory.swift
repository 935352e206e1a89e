import ImageTree

/// What is installed in an image, by the package databases in it.
public struct ImageInventory: Sendable {
    public private(set) var distribution = Distribution()
    /// Sorted by ecosystem, name and version; each once.
    public private(set) var packages: [InstalledPackage] = []
    /// Databases that are there and could not be read, with the reason.
    public private(set) var failures: [String] = []

    /// Looks through a tree.
    /// - Parameter read: the bytes of a file by its path without links; nil where it cannot be had.
    public init(_ root: Node, read: @escaping (_ path: String) throws -> [UInt8]?) {
        func text(_ path: String) -> String? {
            // Links are followed in the tree; the reader gets the path that they lead to.
            let place = TreePath.resolve(path, in: root)
            guard place.node != nil, let bytes = try? read("/" + place.path.joined(separator: "/")) else { return nil }
            return String(decoding: bytes, as: UTF8.self)
        }
        distribution = (text("/etc/os-release") ?? text("/usr/lib/os-release")).map(Distribution.init(osRelease:)) ?? Distribution()
        var found: [InstalledPackage] = []
        found += DpkgDatabase.packages(root, text)
        found += ApkDatabase.packages(text)
        found += PacmanDatabase.packages(root, text)
        for path in RPMDatabase.places {
            guard TreePath.find(path, in: root) != nil else { continue }
            do { found += try RPMDatabase.packages(try read(path) ?? [], path) } catch { failures.append("\(path): \(error)") }
        }
        found += LanguagePackages(root, text).packages
        packages = Set(found).sorted {
            ($0.ecosystem.rawValue, $0.name, $0.version, $0.source) < ($1.ecosystem.rawValue, $1.name, $1.version, $1.source)
        }
    }
}
