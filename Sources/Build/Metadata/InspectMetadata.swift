import ImageTree

/// What `inspect` prints of a container: labels, environment, scripts, help and definition, of the container and its apps.
public struct InspectMetadata {
    /// Attributes of the container, in the order in which they are printed.
    public var attributes: [(key: String, value: JSONValue)] = []

    private static let folder = "/.singularity.d"

    /// Reads them from a container's tree.
    public init(_ root: Node) throws {
        let apps = TreePath.find("/scif/apps", in: root)?.directory?.sorted.filter { $0.node.isDirectory } ?? []
        let members = try apps.map { name, _ in
            let name = String(decoding: name, as: UTF8.self)
            return (key: name, value: JSONValue.object(try Self.app(name, root)))
        }
        if !members.isEmpty { attributes.append(("apps", .object(members))) }
        let environment = try Self.environment(root)
        if !environment.isEmpty { attributes.append(("environment", .object(environment))) }
        attributes.append(("labels", .object(sorted: try Self.labels(Self.folder + "/labels.json", root))))
        for (key, file) in [
            ("runscript", "runscript"), ("test", "test"), ("helpfile", "runscript.help"), ("deffile", "Singularity"),
            ("startscript", "startscript"),
        ] {
            if let text = try Self.text("\(Self.folder)/\(file)", root) { attributes.append((key, .string(text))) }
        }
    }

    /// The object as the image keeps it.
    public var json: JSONValue {
        .object([("data", .object([("attributes", .object(attributes))])), ("type", .string("container"))])
    }

    /// Labels of a tree.
    static func labels(_ path: String, _ root: Node) throws -> [String: String] {
        guard let bytes = try TreePath.read(path, in: root) else { return [:] }
        return JSONLabels.parse(bytes)
    }

    private static func environment(_ root: Node) throws -> [(key: String, value: JSONValue)] {
        let folder = folder + "/env"
        let names = TreePath.find(folder, in: root)?.directory?.sorted.map { String(decoding: $0.name, as: UTF8.self) } ?? []
        return try names.filter { $0.hasPrefix("10-docker") || $0.hasPrefix("90") || $0.hasPrefix("91") }.compactMap { name in
            try text("\(folder)/\(name)", root).map { (key: "\(folder)/\(name)", value: .string($0)) }
        }
    }

    private static func app(_ name: String, _ root: Node) throws -> [(key: String, value: JSONValue)] {
        let folder = "/scif/apps/\(name)/scif"
        var out: [(key: String, value: JSONValue)] = []
        let environment = "\(folder)/env/90-environment.sh"
        if let text = try text(environment, root) { out.append(("environment", .object([(environment, .string(text))]))) }
        out.append(("labels", .object(sorted: try labels("\(folder)/labels.json", root))))
        for (key, file) in [("runscript", "runscript"), ("startscript", "startscript"), ("test", "test"), ("helpfile", "runscript.help")] {
            if let text = try text("\(folder)/\(file)", root) { out.append((key, .string(text))) }
        }
        return out
    }

    private static func text(_ path: String, _ root: Node) throws -> String? {
        guard let bytes = try TreePath.read(path, in: root, limit: 4 << 20) else { return nil }
        var text = Substring(String(decoding: bytes, as: UTF8.self))
        while text.last == "\n" { text.removeLast() }
        return String(text)
    }
}
