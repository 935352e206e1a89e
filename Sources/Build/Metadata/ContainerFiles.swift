import ImageTree
import Messages
import Registry
import Runtime

/// What a container knows of itself: labels, environment, scripts, the text that it was built from. It is written into
/// `/.singularity.d` of the tree and, as one JSON object, into the SIF.
public struct ContainerFiles: Sendable {
    public var labels: [String: String] = [:]
    /// Text that the image was built from.
    public var definition: String
    /// Path below `/.singularity.d/env/` and text, beside the files that every container has.
    var environment: [(name: String, text: String)] = []
    public var runscript: String?
    /// The tree's own run script stays.
    private var keepsRunscript = false
    static let ownRunscript = "/.singularity.d/runscript"
    /// Unix seconds of everything written here.
    var time: Int64

    public init(definition: String, time: Int64) {
        self.definition = definition
        self.time = time
    }

    /// Of an OCI or Docker image.
    /// - Parameters:
    ///   - source: agent and name, such as `docker` and `debian:12`.
    ///   - buildTime: Unix seconds.
    public init(_ configuration: ImageConfiguration, agent: String, from: String, platform: Platform, buildTime: Int64) {
        self.init(definition: "bootstrap: \(agent)\nfrom: \(from)\n\n", time: buildTime)
        let process = configuration.config ?? ImageConfiguration.Process()
        labels = process.Labels ?? [:]
        if let health = process.Healthcheck {
            let wanted = HealthCheck.labels(
                of: health.Test ?? [], interval: health.Interval, timeout: health.Timeout, startPeriod: health.StartPeriod,
                retries: health.Retries)
            labels.merge(wanted) { given, _ in given }
        }
        labels["org.label-schema.schema-version"] = "1.0"
        labels["org.label-schema.build-date"] = BuildDate.label(buildTime)
        labels["org.label-schema.build-arch"] = platform.architecture
        labels["org.label-schema.usage.singularity.version"] = ProgramVersion.text
        labels["org.label-schema.usage.singularity.deffile.bootstrap"] = agent
        labels["org.label-schema.usage.singularity.deffile.from"] = from
        environment = [("10-docker2singularity.sh", OCIScripts.environment(process.Env ?? []))]
        let entrypoint = process.Entrypoint ?? []
        let command = process.Cmd ?? []
        // What was exported from a container has its run script in it, and names it.
        keepsRunscript = entrypoint == [Self.ownRunscript] && command.isEmpty
        runscript = OCIScripts.runscript(entrypoint: entrypoint, command: command)
    }

    /// Writes everything into the tree, over what it has there.
    public func write(into root: Node) {
        let tree = TreeEditor(root, time: time)
        for path in BaseFiles.directories { tree.makeDirectory(path) }
        tree.replaceWithDirectory(".singularity.d")
        for path in BaseFiles.ownDirectories { tree.makeDirectory(".singularity.d/" + path) }
        for path in ["etc/hosts", "etc/resolv.conf"] { tree.makeFileIfAbsent(path) }
        for (path, target) in BaseFiles.links { tree.link(path, target) }
        for (path, text) in BaseFiles.scripts { tree.write(".singularity.d/" + path, text, mode: 0o755) }
        for (name, text) in environment { tree.write(".singularity.d/env/" + name, text, mode: 0o755) }
        let isKept = keepsRunscript && TreePath.find(Self.ownRunscript, in: root) != nil
        if !isKept { tree.write(".singularity.d/runscript", runscript ?? BaseFiles.defaultRunscript, mode: 0o755) }
        tree.write(".singularity.d/Singularity", definition, mode: 0o644)
        tree.write(".singularity.d/labels.json", JSONValue.object(sorted: labels).indented, mode: 0o644)
    }
}
