import FoundationEssentials
import ImageTree

/// Packages of programming languages, which are found by the names of files wherever they are.
struct LanguagePackages {
    private(set) var packages: [InstalledPackage] = []
    private let text: (String) -> String?

    init(_ root: Node, _ text: @escaping (String) -> String?) {
        self.text = text
        var pending: [(path: String, node: Node)] = [("", root)]
        while let (path, node) = pending.popLast() {
            guard let directory = node.directory else { continue }
            // Kernel interfaces and the image's own description hold no packages.
            for (rawName, child) in directory.sorted {
                let name = String(decoding: rawName, as: UTF8.self)
                let place = "\(path)/\(name)"
                if child.isDirectory {
                    look(place, name, child)
                    pending.append((place, child))
                } else if name.hasSuffix(".egg-info") {
                    addPython(place)
                }
            }
        }
    }

    /// Looks at a directory whose name says what it is.
    private mutating func look(_ path: String, _ name: String, _ node: Node) {
        if name.hasSuffix(".dist-info") { addPython(path + "/METADATA") }
        if name.hasSuffix(".egg-info") { addPython(path + "/PKG-INFO") }
        if name == "conda-meta" { for file in names(node) where file.hasSuffix(".json") { addConda("\(path)/\(file)") } }
        if name == "node_modules" { addNode(path, node) }
        // R's libraries: R_HOME/library and the site's beside it.
        if name == "library" || name == "site-library", path.contains("/R/") {
            for package in names(node) where node.directory?[package]?.directory?["DESCRIPTION"] != nil {
                addR("\(path)/\(package)/DESCRIPTION")
            }
        }
    }

    private func names(_ node: Node) -> [String] { node.directory?.sorted.map { String(decoding: $0.name, as: UTF8.self) } ?? [] }

    /// Core metadata ("Core metadata specifications" of the Python packaging guide).
    private mutating func addPython(_ path: String) {
        guard let content = text(path), let fields = Paragraphs(content).first(where: { _ in true }), let name = fields["Name"],
            let version = fields["Version"]
        else { return }
        packages.append(
            InstalledPackage(
                .pypi, name: name, version: version, license: fields["License-Expression"] ?? fields["License"], supplier: fields["Author"],
                homepage: fields["Home-page"], source: path))
    }

    private struct CondaRecord: Decodable {
        var name: String
        var version: String
        var build: String?
        var channel: String?
        var license: String?
        var subdir: String?
    }

    private mutating func addConda(_ path: String) {
        guard let content = text(path), let record = try? JSONDecoder().decode(CondaRecord.self, from: Data(content.utf8)) else { return }
        var package = InstalledPackage(
            .conda, name: record.name, version: record.version, architecture: record.subdir, license: record.license, source: path)
        if let build = record.build { package.qualifiers["build"] = build }
        if let channel = record.channel?.split(separator: "/").last { package.qualifiers["channel"] = String(channel) }
        if let subdir = record.subdir { package.qualifiers["subdir"] = subdir }
        packages.append(package)
    }

    private struct NodeManifest: Decodable {
        var name: String
        var version: String
        var license: String?
        var homepage: String?

        enum Keys: String, CodingKey { case name, version, license, homepage }

        init(from decoder: any Decoder) throws {
            let members = try decoder.container(keyedBy: Keys.self)
            name = try members.decode(String.self, forKey: .name)
            version = try members.decode(String.self, forKey: .version)
            // Old ones have objects here.
            license = try? members.decode(String.self, forKey: .license)
            homepage = try? members.decode(String.self, forKey: .homepage)
        }
    }

    private mutating func addNode(_ path: String, _ node: Node) {
        for name in names(node) where !name.hasPrefix(".") {
            guard let child = node.directory?[name] else { continue }
            let folders = name.hasPrefix("@") ? names(child).map { "\(name)/\($0)" } : [name]
            for folder in folders {
                let file = "\(path)/\(folder)/package.json"
                guard let content = text(file), let manifest = try? JSONDecoder().decode(NodeManifest.self, from: Data(content.utf8)) else {
                    continue
                }
                packages.append(
                    InstalledPackage(
                        .npm, name: manifest.name, version: manifest.version, license: manifest.license, homepage: manifest.homepage,
                        source: file))
            }
        }
    }

    private mutating func addR(_ path: String) {
        guard let content = text(path), let fields = Paragraphs(content).first(where: { _ in true }), let name = fields["Package"],
            let version = fields["Version"]
        else { return }
        packages.append(
            InstalledPackage(
                .cran, name: name, version: version, license: fields["License"], supplier: fields["Maintainer"], homepage: fields["URL"],
                source: path))
    }
}
