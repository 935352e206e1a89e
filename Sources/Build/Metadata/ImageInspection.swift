import Cryptography
import Glibc
import ImageTree
import Inventory
import Linux
import Messages
import Runtime
import SIF

/// Bills of materials of images that have none of their own.
public enum ImageInspection {
    /// What is installed in an image or a directory.
    public static func inventory(_ image: ImageFile) throws -> ImageInventory {
        switch image.content {
        case .squashFS(let squashFS, _, _, _): return try ImageInventory(of: squashFS)
        case .directory:
            let root = try HostTree.read(image.path, ownership: .asStored)
            return ImageInventory(root) { try TreePath.read($0, in: root, limit: 256 << 20) }
        case .ext: throw BuildError.badSource(image.path, why: "an ext image is not looked into; convert it with `singularity build`")
        }
    }

    public static func document(_ inventory: ImageInventory, name: String, _ format: BillOfMaterialsFormat) throws -> JSONValue {
        let text = inventory.packages.map { "\($0.ecosystem.rawValue) \($0.name) \($0.version)\n" }.joined()
        let subject = InventorySubject(
            name: name, identity: Hexadecimal.text(try MessageDigest.of(Array(text.utf8))),
            created: CivilTime(Int64(time(nil))).rfc3339, tool: ("singularity", ProgramVersion.text))
        return format == .cycloneDXJSON ? CycloneDXDocument.json(inventory, of: subject) : SPDXDocument.json(inventory, of: subject)
    }
}
