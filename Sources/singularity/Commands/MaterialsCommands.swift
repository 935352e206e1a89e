import BlockIO
import Build
import CommandSyntax
import Glibc
import Inventory
import Linux
import Messages
import Runtime
import SIF

let materialsCommands = [
    Command(
        spec: CommandSpec(
            "sbom diff", arguments: "<old> <new>", summary: "Show how the packages in two images differ",
            details:
                "Packages of distributions (dpkg, rpm, apk, pacman), Python, conda, npm and R. The status is 0 where nothing differs, 1 otherwise.",
            examples: ["singularity sbom diff app-1.sif app-2.sif"],
            options: [OptionSpec("json", "j", .flag, "print JSON")] + EncryptionOptions.opening, argumentCount: 2...2)
    ) { parsed, _ in
        let keys = EncryptionOptions.keys(parsed)
        let old = try Materials.inventory(parsed.arguments[0], keys: keys)
        let new = try Materials.inventory(parsed.arguments[1], keys: keys)
        let changes = InventoryComparison(old.packages, new.packages).changes
        if parsed.has("json") {
            print(JSONValue.array(changes.map(json)).indented)
        } else {
            for change in changes { print(text(change)) }
        }
        return changes.isEmpty ? 0 : 1
    }
]

private func text(_ change: InventoryComparison.Change) -> String {
    switch change {
    case .added(let package): "+ \(package.ecosystem.rawValue) \(package.name) \(package.version)"
    case .removed(let package): "- \(package.ecosystem.rawValue) \(package.name) \(package.version)"
    case .changed(let package, let from, let to): "~ \(package.ecosystem.rawValue) \(package.name) \(from) -> \(to)"
    }
}

private func json(_ change: InventoryComparison.Change) -> JSONValue {
    let (kind, package, from, to): (String, InstalledPackage, String, String) =
        switch change {
        case .added(let package): ("added", package, "", package.version)
        case .removed(let package): ("removed", package, package.version, "")
        case .changed(let package, let from, let to): ("changed", package, from, to)
        }
    return .object([
        ("change", .string(kind)), ("ecosystem", .string(package.ecosystem.rawValue)), ("name", .string(package.name)),
        ("from", .string(from)), ("to", .string(to)),
    ])
}

/// Bills of materials of images.
enum Materials {
    /// What is installed in an image.
    static func inventory(_ path: String, keys: ImageKeys) throws -> ImageInventory {
        let image = try ImageFile.open(path, workingDirectory: Files.workingDirectory, keys: keys)
        let inventory = try ImageInspection.inventory(image)
        for failure in inventory.failures { Program.printError("WARNING: \(path): \(failure)\n") }
        return inventory
    }

    /// Prints the document that is in the image, or one that is made now of an image without.
    static func print(_ path: String, _ format: String, keys: ImageKeys) throws {
        let wanted: BillOfMaterialsFormat
        switch format {
        case "spdx", "spdx-json": wanted = .spdxJSON
        case "cyclonedx", "cyclonedx-json": wanted = .cycloneDXJSON
        case "list":
            for package in try inventory(path, keys: keys).packages {
                Swift.print("\(package.ecosystem.rawValue) \(package.name) \(package.version)")
            }
            return
        default: throw CommandError("--format \(format): choose spdx, cyclonedx or list")
        }
        if let bytes = try stored(path, wanted) { return try Files.writeAll(bytes + [0x0a], to: 1, name: "standard output") }
        let document = try ImageInspection.document(
            try inventory(path, keys: keys), name: path.split(separator: "/").last.map(String.init) ?? path, wanted)
        Swift.print(document.compact)
    }

    private static func stored(_ path: String, _ format: BillOfMaterialsFormat) throws -> [UInt8]? {
        guard let source = try? FileSource(path: path), SIFFile.isSIF(source) else { return nil }
        let file = try SIFFile(reading: source)
        guard let object = file.descriptors.first(where: { $0.detail == .billOfMaterials(format) }) else { return nil }
        return try source.bytes(at: UInt64(object.offset), count: Int(object.size))
    }
}
