import ImageTree

/// Debian's packages (dpkg's `status` file, deb-control(5)).
enum DpkgDatabase {
    private static let status = "/var/lib/dpkg/status"
    /// One file a package, in images without dpkg.
    private static let folder = "/var/lib/dpkg/status.d"

    static func packages(_ root: Node, _ text: (String) -> String?) -> [InstalledPackage] {
        var found = text(status).map { parse($0, status) } ?? []
        for (name, _) in TreePath.find(folder, in: root)?.directory?.sorted ?? [] {
            let path = "\(folder)/\(String(decoding: name, as: UTF8.self))"
            if !path.hasSuffix(".md5sums"), let one = text(path) { found += parse(one, path) }
        }
        return found
    }

    private static func parse(_ text: String, _ path: String) -> [InstalledPackage] {
        Paragraphs(text).compactMap { fields in
            // Packages that were removed leave their configuration behind.
            if let status = fields["Status"], !status.hasSuffix(" installed") { return nil }
            guard let name = fields["Package"], let version = fields["Version"] else { return nil }
            return InstalledPackage(
                .deb, name: name, version: version, architecture: fields["Architecture"], supplier: fields["Maintainer"],
                homepage: fields["Homepage"], source: path)
        }
    }
}

/// Paragraphs of `Name: value` lines with an empty line between them. Continued lines are passed over.
struct Paragraphs: Sequence {
    private let text: String

    init(_ text: String) { self.text = text }

    func makeIterator() -> AnyIterator<[String: String]> {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false)[...]
        return AnyIterator {
            var fields: [String: String] = [:]
            while let line = lines.popFirst() {
                if line.isEmpty || line == "\r" {
                    if fields.isEmpty { continue }
                    return fields
                }
                guard let first = line.first, !first.isWhitespace, let colon = line.firstIndex(of: ":") else { continue }
                let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
                fields[String(line[..<colon])] = value.hasSuffix("\r") ? String(value.dropLast()) : String(value)
            }
            return fields.isEmpty ? nil : fields
        }
    }
}
