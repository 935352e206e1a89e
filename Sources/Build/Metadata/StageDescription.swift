import Definition
import ImageTree
import Linux
import Messages

/// Writes what a definition says of its image into the finished tree: labels, environment, scripts, help, and the
/// definition itself.
struct StageDescription {
    let definition: DefinitionFile
    let stage: DefinitionFile.Stage
    let base: StageBase
    let architecture: String
    /// Unix seconds: the build's time.
    let time: Int64
    let force: Bool
    let runs: (Section.Kind) -> Bool
    /// Steps on an existing sandbox.
    var isUpdate = false
    let warn: (String) -> Void

    private static let folder = "/.singularity.d"

    func write(into root: Node) throws {
        let tree = TreeEditor(root, time: time)
        tree.replaceWithDirectory(".singularity.d")
        try keepHistory(root, tree)
        if runs(.help), let help = stage.section(.help) { addHelp(help, root, tree) }
        try addLabels(root, tree)
        tree.write(Self.folder + "/Singularity", definition.text, mode: 0o644)
        if runs(.environment), let section = stage.section(.environment) {
            let path = Self.folder + "/env/90-environment.sh"
            let old = try TreePath.read(path, in: root).map { String(decoding: $0, as: UTF8.self) } ?? "#!/bin/sh\n"
            tree.write(path, old + "\n" + section.body, mode: 0o755)
        }
        for (kind, file) in [(Section.Kind.runscript, "runscript"), (.startscript, "startscript"), (.test, "test")] {
            guard runs(kind), let section = stage.section(kind) else { continue }
            tree.write("\(Self.folder)/\(file)", SectionScript.standalone(section), mode: 0o755)
        }
        if !stage.apps.isEmpty {
            tree.write(Self.folder + "/env/94-appsbase.sh", AppFiles.overview(Self.apps(of: root)), mode: 0o755)
        }
    }

    private static func apps(of root: Node) -> [String] {
        TreePath.find("/scif/apps", in: root)?.directory?.sorted.filter { $0.node.isDirectory }.map {
            String(decoding: $0.name, as: UTF8.self)
        } ?? []
    }

    /// The definition of a container that was built upon.
    private func keepHistory(_ root: Node, _ tree: TreeEditor) throws {
        guard base.isContainer, let old = try TreePath.read(Self.folder + "/Singularity", in: root) else { return }
        let folder = Self.folder + "/bootstrap_history"
        tree.makeDirectory(folder)
        let count = TreePath.find(folder, in: root)?.directory?.children.count ?? 0
        tree.write("\(folder)/Singularity\(count)", String(decoding: old, as: UTF8.self), mode: 0o644)
    }

    private func addHelp(_ help: Section, _ root: Node, _ tree: TreeEditor) {
        let path = Self.folder + "/runscript.help"
        if TreePath.find(path, in: root) != nil && !force {
            return warn("the base has a help text, which is kept: use --force to overwrite it")
        }
        tree.write(path, help.body + "\n", mode: 0o644)
    }

    private func addLabels(_ root: Node, _ tree: TreeEditor) throws {
        let path = Self.folder + "/labels.json"
        var labels = try InspectMetadata.labels(path, root)
        if runs(.labels) {
            var own: [String: String] = [:]
            for (key, value) in stage.section(.labels)?.labels ?? [] { own[key] = value }
            for (key, value) in own {
                if let old = labels[key], old != value, !force {
                    warn("label \(key) is that of the base: use --force to overwrite it")
                } else {
                    labels[key] = value
                }
            }
        }
        // Lines that %post has left.
        if let bytes = try TreePath.read("/.build.labels", in: root) {
            for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
                let key = line.prefix { $0 != " " && $0 != "\t" }
                if !key.isEmpty { labels[String(key)] = String(line.dropFirst(key.count).drop { $0 == " " || $0 == "\t" }) }
            }
            root.directory?[".build.labels"] = nil
        }
        automatic(&labels, hasHelp: TreePath.find(Self.folder + "/runscript.help", in: root) != nil)
        tree.write(path, JSONValue.object(sorted: labels).indented, mode: 0o644)
    }

    private func automatic(_ labels: inout [String: String], hasHelp: Bool) {
        let prefix = "org.label-schema."
        labels[prefix + "schema-version"] = "1.0"
        labels[prefix + "build-date"] = BuildDate.label(time)
        labels[prefix + "build-arch"] = architecture
        labels[prefix + "usage.singularity.version"] = ProgramVersion.text
        if hasHelp {
            labels[prefix + "usage"] = Self.folder + "/runscript.help"
            labels[prefix + "usage.singularity.runscript.help"] = Self.folder + "/runscript.help"
        }
        guard !isUpdate else { return }
        let own = prefix + "usage.singularity.deffile."
        for key in labels.keys where key.hasPrefix(own) { labels[key] = nil }
        for entry in stage.header.entries { labels[own + entry.key] = entry.value }
    }
}
