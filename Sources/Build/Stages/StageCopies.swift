import Definition
import Glibc
import ImageTree

/// `%files from STAGE`: owners and modes stay; a link that is named itself is followed, those inside are not.
struct StageCopies {
    let section: Section
    /// Of the definition file, for messages.
    let file: String
    let stage: String

    func copy(from source: Node, into changes: ChangeTree) throws {
        for copy in section.fileCopies {
            let found = try expand(copy.source, in: source)
            guard !found.isEmpty else {
                throw BuildError.refused(
                    "\(file):\(copy.line): while copying \(copy.source) from stage \(stage): no such file or directory in it")
            }
            for (path, node) in found {
                let name = path.split(separator: "/").last.map(String.init) ?? ""
                let destination = copy.destination.isEmpty ? path : copy.destination
                let target = destination.hasPrefix("/") ? destination : "/" + destination
                do {
                    if copy.destination.isEmpty {
                        try changes.replace(target, with: node)
                    } else {
                        try changes.put(node, at: target, name: name)
                    }
                } catch {
                    throw BuildError.refused("\(file):\(copy.line): while copying \(path) from stage \(stage) to \(destination): \(error)")
                }
            }
        }
    }

    /// What a pattern finds in the stage's tree.
    private func expand(_ pattern: String, in root: Node) throws -> [(path: String, node: Node)] {
        if let node = TreePath.find(pattern, in: root) { return [(pattern, node)] }
        var found: [(path: String, node: Node)] = [("", root)]
        for part in pattern.split(separator: "/") {
            var next: [(path: String, node: Node)] = []
            for (path, node) in found {
                let folder = TreePath.find(path, in: root) ?? node
                guard let directory = folder.directory else { continue }
                for (name, _) in directory.sorted {
                    let text = String(decoding: name, as: UTF8.self)
                    // A name with a dot first is only found by a pattern that has it.
                    guard fnmatch(String(part), text, FNM_PERIOD) == 0, let child = TreePath.find("\(path)/\(text)", in: root) else {
                        continue
                    }
                    next.append(("\(path)/\(text)", child))
                }
            }
            found = next
        }
        return found.filter { !$0.path.isEmpty }
    }
}
