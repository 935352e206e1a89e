import Linux

/// SIF headers and descriptors as text, in the layout of the peers' `sif` commands.
public enum Listing {
    // MARK: Table

    /// What `sif list` prints.
    public static func table(_ file: SIFFile) -> String {
        let rule = String(repeating: "-", count: 78)
        var lines = [rule, "ID   |GROUP   |LINK    |SIF POSITION (start-end)  |TYPE", rule]
        for descriptor in file.descriptors {
            let columns = [
                padded("\(descriptor.id)", 5), padded(group(descriptor), 8), padded(link(descriptor, gap: "   "), 8),
                padded("\(descriptor.offset)-\(descriptor.end)", 26), type(descriptor),
            ]
            lines.append(columns.joined(separator: "|"))
        }
        return lines.joined(separator: "\n") + "\n"
    }

    package static func group(_ descriptor: Descriptor) -> String { descriptor.group.map { "\($0)" } ?? "NONE" }

    package static func link(_ descriptor: Descriptor, gap: String) -> String {
        switch descriptor.link {
        case .none: "NONE"
        case .object(let id): "\(id)"
        case .group(let id): "\(id)\(gap)(G)"
        }
    }

    private static func type(_ descriptor: Descriptor) -> String {
        guard let type = descriptor.type else { return "Unknown" }
        switch descriptor.detail {
        case .partition(let fileSystem, let kind, let architecture):
            return "\(type.name) (\(fileSystem.name)/\(kind.name)/\(architecture))"
        case .signature(let hash, _): return "\(type.name) (\(hash.name))"
        case .message(let format, let kind): return "\(type.name) (\(messageFormat(format))/\(messageKind(kind)))"
        case .billOfMaterials(let format): return "\(type.name) (\(format.name))"
        default: return type.name
        }
    }

    private static func messageFormat(_ number: Int32) -> String {
        switch number {
        case 1: "OpenPGP"
        case 2: "PEM"
        default: "Unknown"
        }
    }

    private static func messageKind(_ number: Int32) -> String {
        switch number {
        case 0x100: "Clear Signature"
        case 0x200: "RSA-OAEP"
        default: "Unknown"
        }
    }

    // MARK: One object

    /// What `sif info` prints.
    public static func object(_ descriptor: Descriptor) -> String {
        var rows = [
            ("Data Type", descriptor.type?.name ?? "Unknown"), ("ID", "\(descriptor.id)"), ("Group ID", group(descriptor)),
            ("Linked ID", link(descriptor, gap: " ")), ("Offset", "\(descriptor.offset)"), ("Size", "\(descriptor.size)"),
        ]
        if descriptor.created != Header.noTime { rows.append(("Created At", time(descriptor.created))) }
        if descriptor.modified != Header.noTime { rows.append(("Modified At", time(descriptor.modified))) }
        if !descriptor.name.isEmpty { rows.append(("Name", descriptor.name)) }
        switch descriptor.detail {
        case .partition(let fileSystem, let kind, let architecture):
            rows += [("Filesystem Type", fileSystem.name), ("Partition Type", kind.name), ("Architecture", "\(architecture)")]
        case .signature(let hash, let fingerprint):
            rows.append(("Hash Type", hash.name))
            if let fingerprint { rows.append(("Entity", Hexadecimal.text(fingerprint, upperCase: true))) }
        case .message(let format, let kind): rows += [("Format Type", messageFormat(format)), ("Message Type", messageKind(kind))]
        case .billOfMaterials(let format): rows.append(("Format", format.name))
        case .digest(let text): rows.append(("Digest", text))
        case .none, .other: break
        }
        let width = (rows.map(\.0.count).max() ?? 0) + 3
        return rows.map { "  " + padded($0.0 + ":", width) + $0.1 + "\n" }.joined()
    }

    // MARK: Header

    /// What `sif header` prints.
    public static func header(_ header: Header) -> String {
        var rows: [(String, String)] = []
        var script = Substring(header.launchScript)
        while script.last == "\n" { script.removeLast() }
        if !script.isEmpty { rows.append(("Launch Script", String(script))) }
        rows.append(("Version", "01"))
        if header.architecture != .unknown { rows.append(("Primary Architecture", "\(header.architecture)")) }
        if header.id.contains(where: { $0 != 0 }) { rows.append(("ID", identifier(header.id))) }
        if header.created != Header.noTime { rows.append(("Created At", time(header.created))) }
        if header.modified != Header.noTime { rows.append(("Modified At", time(header.modified))) }
        rows += [
            ("Descriptors Free", "\(header.descriptorsFree)"), ("Descriptors Total", "\(header.descriptorsTotal)"),
            ("Descriptors Offset", "\(header.descriptorsOffset)"), ("Descriptors Size", size(header.descriptorsSize)),
            ("Data Offset", "\(header.dataOffset)"), ("Data Size", size(header.dataSize)),
        ]
        let width = (rows.map(\.0.count).max() ?? 0) + 2
        return rows.map { padded($0.0 + ":", width) + $0.1 + "\n" }.joined()
    }

    /// A UUID in its usual form (RFC 9562).
    private static func identifier(_ bytes: [UInt8]) -> String {
        let digits = Array(Hexadecimal.text(bytes))
        return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(digits[$0]) }.joined(separator: "-")
    }

    private static func size(_ bytes: Int64) -> String {
        var divisor: Int64 = 1
        var unit = 0
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        while bytes / divisor >= 1024 && unit < units.count - 1 {
            divisor *= 1024
            unit += 1
        }
        return "\(Int64((Double(bytes) / Double(divisor)).rounded(.toNearestOrEven))) \(units[unit])"
    }

    // MARK: Text

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    /// `2026-11-23 19:26:25 +0000 UTC`.
    package static func time(_ seconds: Int64) -> String {
        let time = CivilTime(seconds)
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(time.year)-\(two(time.month))-\(two(time.day)) \(two(time.hour)):\(two(time.minute)):\(two(time.second)) +0000 UTC"
    }
}
