import ImageTree
import Registry

/// What a container knows of itself: labels, environment, scripts, the text that it was built from. It is written into
/// `/.singularity.d` of the tree and, as one JSON object, into the SIF.
public struct ContainerFiles: Sendable {
    public var labels: [String: String] = [:]
    /// Text that the image was built from.
    public var definition: String
    /// Path below `/.singularity.d/env/` and text, beside the files that every container has.
    var environment: [(name: String, text: String)] = []
    public var runscript: String?
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
        labels["org.label-schema.schema-version"] = "1.0"
        labels["org.label-schema.build-date"] = BuildDate.label(buildTime)
        labels["org.label-schema.build-arch"] = platform.architecture
        labels["org.label-schema.usage.singularity.version"] = ProgramVersion.text
        labels["org.label-schema.usage.singularity.deffile.bootstrap"] = agent
        labels["org.label-schema.usage.singularity.deffile.from"] = from
        environment = [("10-docker2singularity.sh", OCIScripts.environment(process.Env ?? []))]
        let entrypoint = process.Entrypoint ?? []
        let command = process.Cmd ?? []
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
        tree.write(".singularity.d/runscript", runscript ?? BaseFiles.defaultRunscript, mode: 0o755)
        tree.write(".singularity.d/Singularity", definition, mode: 0o644)
        tree.write(".singularity.d/labels.json", JSONValue.object(sorted: labels).indented, mode: 0o644)
    }

    /// The object that `inspect` prints from.
    public var inspectMetadata: JSONValue {
        var attributes: [(key: String, value: JSONValue)] = []
        var texts = environment.map { ($0.name, $0.text) }
        texts += BaseFiles.scripts.filter { $0.path == "env/90-environment.sh" }.map { ("90-environment.sh", $0.text) }
        let entries = texts.map { (key: "/.singularity.d/env/" + $0.0, value: JSONValue.string(Self.trimmed($0.1))) }
        attributes.append(("environment", .object(entries)))
        attributes.append(("labels", .object(sorted: labels)))
        attributes.append(("runscript", .string(Self.trimmed(runscript ?? BaseFiles.defaultRunscript))))
        attributes.append(("deffile", .string(Self.trimmed(definition))))
        attributes.append(
            ("startscript", .string(Self.trimmed(BaseFiles.scripts.first { $0.path == "startscript" }?.text ?? ""))))
        return .object([("data", .object([("attributes", .object(attributes))])), ("type", .string("container"))])
    }

    private static func trimmed(_ text: String) -> String {
        var text = Substring(text)
        while text.last == "\n" { text.removeLast() }
        return String(text)
    }
}

/// The program's own version.
public enum ProgramVersion {
    public static let text = "5.0.0"
}

/// Dates as the label schema has them.
enum BuildDate {
    /// `Monday_2_January_2026_15:4:5_UTC`, without zeros in front.
    static func label(_ time: Int64) -> String {
        let days = time >= 0 ? time / 86400 : (time - 86399) / 86400
        let second = time - days * 86400
        let (year, month, day) = civil(days)
        let weekday = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"][Int((days % 7 + 7) % 7)]
        let months = [
            "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
            "December",
        ]
        return "\(weekday)_\(day)_\(months[month - 1])_\(year)_\(second / 3600):\(second / 60 % 60):\(second % 60)_UTC"
    }

    /// Year, month and day of a day number; day 0 is 1 January 1970 in the Gregorian calendar.
    static func civil(_ days: Int64) -> (year: Int64, month: Int, day: Int) {
        // Counted from 1 March of year 0, so that the leap day is the last of a year.
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), Int(month), Int(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1))
    }

    /// Unix seconds of an RFC 3339 time such as `2026-11-24T10:00:00.5Z`, nil for anything else.
    static func seconds(rfc3339 text: String) -> Int64? {
        let bytes = Array(text.utf8)
        func number(_ range: Range<Int>) -> Int64? {
            range.upperBound <= bytes.count ? Int64(String(decoding: bytes[range], as: UTF8.self)) : nil
        }
        guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
            let minute = number(14..<16), let second = number(17..<19), (1...12).contains(month), (1...31).contains(day)
        else { return nil }
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = shiftedYear / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        var seconds = days * 86400 + hour * 3600 + minute * 60 + second
        if let sign = bytes.lastIndex(where: { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "-") }), sign > 18,
            let hours = number(sign + 1..<sign + 3), let minutes = number(sign + 4..<sign + 6)
        {
            seconds -= (bytes[sign] == UInt8(ascii: "+") ? 1 : -1) * (hours * 3600 + minutes * 60)
        }
        return seconds
    }
}
