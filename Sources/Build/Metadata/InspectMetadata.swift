import ImageTree
import Messages

/// What `inspect` prints of a container: labels, environment, scripts, help and definition, of the container and its apps.
public struct InspectMetadata {
    /// Attributes of the container, in the order in which they are printed.
    public var attributes: [(key: String, value: JSONValue)] = []

    private static let folder = "/.singularity.d"

    /// Reads them from a container.
    public init(_ container: ContainerReader) throws {
        let apps = try Self.apps(container).map { (key: $0, value: JSONValue.object(try Self.app($0, container))) }
        if !apps.isEmpty { attributes.append(("apps", .object(apps))) }
        let environment = try Self.environment(container)
        if !environment.isEmpty { attributes.append(("environment", .object(environment))) }
        attributes.append(("labels", .object(sorted: try Self.labels(Self.folder + "/labels.json", container))))
        for (key, file) in [
            ("runscript", "runscript"), ("test", "test"), ("helpfile", "runscript.help"), ("deffile", "Singularity"),
            ("startscript", "startscript"),
        ] {
            if let text = try Self.text("\(Self.folder)/\(file)", container) { attributes.append((key, .string(text))) }
        }
    }

    /// Reads them from a container's tree.
    public init(_ root: Node) throws { try self.init(ContainerReader(root)) }

    /// The object as the image keeps it.
    public var json: JSONValue { Self.wrapped(attributes) }

    /// Attributes in the frame that the peers' programs print.
    public static func wrapped(_ attributes: [(key: String, value: JSONValue)]) -> JSONValue {
        .object([("data", .object([("attributes", .object(attributes))])), ("type", .string("container"))])
    }

    /// Names of the apps in a container.
    public static func apps(_ container: ContainerReader) throws -> [String] {
        try container.names("/scif/apps").sorted().filter {
            try container.bytes("/scif/apps/\($0)/scif/env/01-base.sh") != nil || container.names("/scif/apps/\($0)").contains("scif")
        }
    }

    /// Labels of a container.
    static func labels(_ path: String, _ container: ContainerReader) throws -> [String: String] {
        guard let bytes = try container.bytes(path) else { return [:] }
        return JSONLabels.parse(bytes)
    }

    static func labels(_ path: String, _ root: Node) throws -> [String: String] { try labels(path, ContainerReader(root)) }

    private static func environment(_ container: ContainerReader) throws -> [(key: String, value: JSONValue)] {
        let folder = folder + "/env"
        let names = container.names(folder).filter { $0.hasPrefix("10-docker") || $0.hasPrefix("90") || $0.hasPrefix("91") }.sorted()
        return try names.compactMap { name in
            try text("\(folder)/\(name)", container).map { (key: "\(folder)/\(name)", value: .string($0)) }
        }
    }

    /// Attributes of one app.
    public static func app(_ name: String, _ container: ContainerReader) throws -> [(key: String, value: JSONValue)] {
        let folder = "/scif/apps/\(name)/scif"
        var out: [(key: String, value: JSONValue)] = []
        let environment = "\(folder)/env/90-environment.sh"
        if let text = try text(environment, container) { out.append(("environment", .object([(environment, .string(text))]))) }
        out.append(("labels", .object(sorted: try labels("\(folder)/labels.json", container))))
        for (key, file) in [("runscript", "runscript"), ("startscript", "startscript"), ("test", "test"), ("helpfile", "runscript.help")] {
            if let text = try text("\(folder)/\(file)", container) { out.append((key, .string(text))) }
        }
        return out
    }

    private static func text(_ path: String, _ container: ContainerReader) throws -> String? {
        guard let bytes = try container.bytes(path) else { return nil }
        var text = Substring(String(decoding: bytes, as: UTF8.self))
        while text.last == "\n" { text.removeLast() }
        return String(text)
    }
}
