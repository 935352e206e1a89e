import BlockIO
import Cryptography
import Glibc
import ImageTree
import Inventory
import Linux
import Messages
import SIF
import SquashFS

/// What a SIF says of the file system in it once that is written: bills of materials and provenance.
struct ImageDocuments {
    /// Unix seconds that stand in them: the same for the same input.
    let time: Int64
    /// How the image was made, see ``SIFTarget/Description/record``.
    let record: (() throws -> (objects: [SIFTarget.Description.Object], provenance: Provenance))?
    /// Bills of materials are written.
    let listsContents: Bool

    /// Adds them behind the partition.
    /// - Parameter transfer: what is still to be copied into the partition; it has been when this returns.
    func add(to sif: SIFWriter, _ transfer: BlockTransfer?) throws {
        try transfer?.start(sif.descriptor, name: sif.file.name)
        defer { try? transfer?.finish() }
        guard let partition = sif.file.primaryPartition else { return }
        let source = try FileSource(copyOf: sif.descriptor, name: sif.file.name)
        let slice = try SliceSource(source, offset: UInt64(partition.offset), size: UInt64(partition.size))
        let digest = record == nil ? "" : try Self.digest(slice, transfer, flushing: sif.descriptor)
        try transfer?.finish()
        if listsContents { try addInventory(to: sif, slice) }
        guard let (objects, provenance) = try record?() else { return }
        for object in objects { try sif.add(NewObject(object.type, name: object.name), object.bytes) }
        let statement = provenance.statement(subject: "object \(partition.id)", digest: digest)
        try sif.add(NewObject(.genericJSON, name: Provenance.objectName), Array(statement.compact.utf8))
    }

    static let spdxName = "sbom.spdx.json"
    static let cycloneDXName = "sbom.cdx.json"

    private func addInventory(to sif: SIFWriter, _ plain: any BlockSource) throws {
        let image = try SquashFSImage(plain)
        let documents = try Self.bills(try ImageInventory(of: image), seed: "\(image.superblock.inodeCount)", time: time)
        for (name, format, bytes) in documents {
            try sif.add(NewObject(.billOfMaterials, name: name, detail: .billOfMaterials(format)), bytes)
        }
    }

    /// A list of contents in each form.
    /// - Parameters:
    ///   - seed: what else tells this image from others.
    ///   - time: Unix seconds.
    static func bills(
        _ inventory: ImageInventory, seed: String, time: Int64
    ) throws -> [(name: String, format: BillOfMaterialsFormat, bytes: [UInt8])] {
        let text = inventory.packages.map { "\($0.ecosystem.rawValue) \($0.name) \($0.version) \($0.source)\n" }.joined()
        let seed = Array("\(inventory.distribution.name)\n\(seed)\n\(time)\n\(text)".utf8)
        let subject = InventorySubject(
            name: inventory.distribution.name.isEmpty ? "container" : inventory.distribution.name,
            identity: Hexadecimal.text(try MessageDigest.of(seed)), created: CivilTime(time).rfc3339,
            tool: ("singularity", ProgramVersion.text))
        return [
            (spdxName, .spdxJSON, Array(SPDXDocument.json(inventory, of: subject).compact.utf8)),
            (cycloneDXName, .cycloneDXJSON, Array(CycloneDXDocument.json(inventory, of: subject).compact.utf8)),
        ]
    }

    /// Digests the partition while its blocks arrive and the disk takes them up, which it must have done before the file gets its name.
    private static func digest(_ partition: SliceSource, _ transfer: BlockTransfer?, flushing file: CInt) throws -> String {
        let flush = try? WorkerThread {
            transfer?.follow { Files.beginWriting(file, at: $0.lowerBound, count: UInt64($0.count)) }
            fdatasync(file)
        }
        defer { flush?.join() }
        var digest = try MessageDigest(.sha256)
        let portion: UInt64 = 8 << 20
        for start in stride(from: 0, to: partition.size, by: Int(portion)) {
            let end = min(partition.size, start + portion)
            try transfer?.wait(until: partition.offset + end)
            try partition.read(start..<end) { digest.update($0) }
        }
        return Hexadecimal.text(digest.finish())
    }
}

extension ImageInventory {
    /// Looks through an image.
    public init(of image: SquashFSImage) throws {
        self.init(try SquashFSTree.read(image)) { path in
            guard let inode = try image.lookUp(path), case .file(let layout) = inode.content, layout.size <= 256 << 20 else { return nil }
            return try image.content(of: inode, limit: 256 << 20)
        }
    }
}
