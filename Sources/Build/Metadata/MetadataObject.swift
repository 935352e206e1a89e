import FoundationEssentials
import Messages

/// The object `inspect-metadata.json` of a SIF, read as the files that it was made of: what `inspect` shows of an encrypted image
/// without its key.
struct MetadataObject: Decodable {
    private struct Attributes: Decodable {
        var apps: [String: App]?
        var environment: [String: String]?
        var labels: [String: String]?
        var runscript, test, helpfile, deffile, startscript: String?
    }

    private struct App: Decodable {
        var environment: [String: String]?
        var labels: [String: String]?
        var runscript, test, helpfile, startscript: String?
    }

    private struct Body: Decodable { var attributes: Attributes }

    private var data: Body

    /// Texts by the paths at which a container has them.
    var files: [String: String] {
        let all = data.attributes
        var files = all.environment ?? [:]
        func add(_ folder: String, _ labels: [String: String]?, _ texts: [(String, String?)]) {
            if let labels { files["\(folder)/labels.json"] = JSONValue.object(sorted: labels).compact }
            for case (let name, let text?) in texts { files["\(folder)/\(name)"] = text }
        }
        add(
            "/.singularity.d", all.labels,
            [
                ("runscript", all.runscript), ("test", all.test), ("runscript.help", all.helpfile), ("Singularity", all.deffile),
                ("startscript", all.startscript),
            ])
        for (name, app) in all.apps ?? [:] where !name.contains("/") {
            files.merge(app.environment ?? [:]) { old, _ in old }
            let folder = "/scif/apps/\(name)/scif"
            // By this file an app is known.
            files["\(folder)/env/01-base.sh"] = ""
            add(
                folder, app.labels,
                [("runscript", app.runscript), ("test", app.test), ("runscript.help", app.helpfile), ("startscript", app.startscript)])
        }
        return files
    }
}

extension ContainerReader {
    /// - Parameter metadata: the object's bytes.
    /// - Returns: nil where they make no sense.
    public init?(metadata: [UInt8]) {
        guard let object = try? JSONDecoder().decode(MetadataObject.self, from: Data(metadata)) else { return nil }
        let files = object.files
        bytes = { files[$0].map { Array($0.utf8) } }
        names = { folder in
            Array(
                Set(
                    files.keys.filter { $0.hasPrefix(folder + "/") }.compactMap {
                        $0.dropFirst(folder.count + 1).split(separator: "/").first.map(String.init)
                    }))
        }
    }
}
