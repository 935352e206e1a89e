import BlockIO
import CommandSyntax
import Glibc
import Linux
import Registry
import SIF

let sifCommands = [
    Command(
        spec: CommandSpec(
            "sif list", arguments: "<sif_path>", summary: "List data objects", examples: ["singularity sif list deb.sif"],
            argumentCount: 1...1)
    ) { parsed, _ in
        try reported { print(Listing.table(try SIFAccess.read(parsed.arguments[0])), terminator: "") }
    },
    Command(
        spec: CommandSpec(
            "sif header", arguments: "<sif_path>", summary: "Display global header",
            examples: ["singularity sif header deb.sif"], argumentCount: 1...1)
    ) { parsed, _ in
        try reported { print(Listing.header(try SIFAccess.read(parsed.arguments[0]).header), terminator: "") }
    },
    Command(
        spec: CommandSpec(
            "sif info", arguments: "<id> <sif_path>", summary: "Display data object info",
            examples: ["singularity sif info 1 deb.sif"], argumentCount: 2...2)
    ) { parsed, _ in
        try reported {
            let id = try SIFAccess.identifier(parsed.arguments[0])
            print(Listing.object(try SIFAccess.read(parsed.arguments[1]).descriptor(id: id)), terminator: "")
        }
    },
    Command(
        spec: CommandSpec(
            "sif dump", arguments: "<id> <sif_path>", summary: "Dump data object",
            details: "Writes the object's bytes to standard output.", examples: ["singularity sif dump 1 deb.sif"],
            argumentCount: 2...2)
    ) { parsed, _ in
        try reported {
            let id = try SIFAccess.identifier(parsed.arguments[0])
            let source = try FileSource(path: parsed.arguments[1])
            let object = try SIFFile(reading: source).descriptor(id: id)
            try source.read(UInt64(object.offset)..<UInt64(object.end)) { try Files.writeAll($0, to: 1, name: "standard output") }
        }
    },
    Command(
        spec: CommandSpec(
            "sif new", arguments: "<sif_path>", summary: "Create SIF image",
            details: "Makes an image without objects. A file that is there is not overwritten.",
            examples: ["singularity sif new empty.sif"],
            options: [OptionSpec("force", "F", .flag, "overwrite a file that is there", environment: ["FORCE"])],
            argumentCount: 1...1)
    ) { parsed, _ in
        try reported {
            let path = parsed.arguments[0]
            if Files.status(path, followLinks: false) != nil, !parsed.has("force") {
                throw CommandError("\(path) is there already; use --force to overwrite it")
            }
            let output = try OutputFile(path, mode: 0o755)
            let id = (0..<16).map { _ in UInt8.random(in: 0...255) }
            let sif = try SIFWriter(
                creating: output.descriptor, name: path, time: Int64(time(nil)), id: SIFAccess.randomIdentifier(id), launchScript: "")
            try sif.commit()
            // The table of an empty image has the length that its header tells.
            guard ftruncate(output.descriptor, off_t(sif.file.header.dataOffset)) == 0 else { throw SystemError.last("write \(path)") }
            try output.commit()
        }
    },
    Command(
        spec: CommandSpec(
            "sif add", arguments: "<sif_path> <object_path>", summary: "Add data object",
            examples: [
                "singularity sif add image.sif recipe.def --datatype 1",
                "singularity sif add image.sif rootfs.squashfs --datatype 4 --parttype 2 --partfs 1 --partarch 2",
            ], options: SIFAddition.options, argumentCount: 2...2)
    ) { parsed, _ in
        try reported {
            let object = try SIFAddition.object(parsed, fileName: parsed.arguments[1])
            try SIFAccess.change(parsed.arguments[0]) { sif in
                if object.type == .ociBlob || object.type == .ociRootIndex {
                    // The object is named by its own digest, so it is read whole.
                    let bytes = try Files.read(parsed.arguments[1], limit: 1 << 30)
                    var object = object
                    object.detail = .digest("\(Digest(of: bytes))")
                    try sif.add(object, bytes)
                } else {
                    try sif.add(object, try FileStream(path: parsed.arguments[1]))
                }
            }
        }
    },
    Command(
        spec: CommandSpec(
            "sif del", arguments: "<id> <sif_path>", summary: "Delete data object",
            examples: ["singularity sif del 1 image.sif"], argumentCount: 2...2)
    ) { parsed, _ in
        try reported {
            let id = try SIFAccess.identifier(parsed.arguments[0])
            try SIFAccess.change(parsed.arguments[1]) { try $0.remove(id: id) }
        }
    },
    Command(
        spec: CommandSpec(
            "sif setprim", arguments: "<id> <sif_path>", summary: "Set primary system partition",
            examples: ["singularity sif setprim 4 image.sif"], argumentCount: 2...2)
    ) { parsed, _ in
        try reported {
            let id = try SIFAccess.identifier(parsed.arguments[0])
            try SIFAccess.change(parsed.arguments[1]) { try $0.setPrimary(id: id) }
        }
    },
]

/// Errors of the `sif` commands have the status 1 and come with the usage, as the peers' do.
private func reported(_ body: () throws -> Void) throws -> Int32 {
    do { try body() } catch { throw ReportedFailure(message: "\(error)") }
    return 0
}

/// Opens SIF files for the `sif` commands.
private enum SIFAccess {
    static func read(_ path: String) throws -> SIFFile { try SIFFile(reading: try FileSource(path: path)) }

    static func identifier(_ text: String) throws -> UInt32 {
        guard let id = UInt32(text) else { throw CommandError("while converting id: \"\(text)\" is not a number") }
        return id
    }

    /// Changes a file in place; its table and header are written last.
    static func change(_ path: String, _ body: (SIFWriter) throws -> Void) throws {
        let file = SharedDescriptor(try OwnedDescriptor.open(path, O_RDWR))
        let sif = try SIFWriter(changing: file, name: path, time: Int64(time(nil)))
        try body(sif)
        try sif.commitToDisk()
    }

    /// A UUID of version 4 (RFC 9562, section 5.4).
    static func randomIdentifier(_ random: [UInt8]) -> [UInt8] {
        var id = random
        id[6] = id[6] & 0x0f | 0x40
        id[8] = id[8] & 0x3f | 0x80
        return id
    }
}

/// The options of `sif add`.
private enum SIFAddition {
    static let options = [
        OptionSpec(
            "datatype", nil, .value("number"),
            "1 Deffile, 2 EnvVar, 3 Labels, 4 Partition, 5 Signature, 6 GenericJSON, 7 Generic, 8 CryptoMessage, 9 SBOM, 10 OCI.RootIndex, 11 OCI.Blob"
        ),
        OptionSpec("parttype", nil, .value("number"), "of a partition: 1 System, 2 PrimSys, 3 Data, 4 Overlay"),
        OptionSpec("partfs", nil, .value("number"), "of a partition: 1 Squash, 2 Ext3, 3 ImmuObj, 4 Raw"),
        OptionSpec(
            "partarch", nil, .value("number"),
            "of a partition: 1 386, 2 amd64, 3 arm, 4 arm64, 5 ppc64, 6 ppc64le, 7 mips, 8 mipsle, 9 mips64, 10 mips64le, 11 s390x, 12 riscv64"
        ),
        OptionSpec("signhash", nil, .value("number"), "of a signature: 1 SHA256, 2 SHA384, 3 SHA512, 4 BLAKE2s_256, 5 BLAKE2b_256"),
        OptionSpec("signentity", nil, .value("fingerprint"), "of a signature: the signer's fingerprint, 40 hexadecimal digits"),
        OptionSpec("sbomformat", nil, .value("name"), "of an SBOM: \(BillOfMaterialsFormat.allCases.map(\.name).joined(separator: ", "))"),
        OptionSpec("groupid", nil, .value("number"), "group of the object (default: none)"),
        OptionSpec("link", nil, .value("id"), "object that this one belongs to (default: none)"),
        OptionSpec("alignment", nil, .value("bytes"), "start at a multiple of so many bytes (default 4096 for partitions)"),
        OptionSpec("filename", nil, .value("name"), "name of the object (default: the file's)"),
    ]

    static func object(_ parsed: ParsedArguments, fileName: String) throws -> NewObject {
        guard let text = parsed["datatype"], let number = Int32(text), let type = DataType(rawValue: 0x4000 + number) else {
            throw CommandError("--datatype is needed, with a number from 1 to 11")
        }
        let alignment = try number32(parsed, "alignment").map { Int($0) }
        var object = NewObject(
            type, group: try number32(parsed, "groupid") ?? 0, name: parsed["filename"] ?? "", alignment: alignment == 0 ? nil : alignment)
        if let link = try number32(parsed, "link"), link != 0 { object.link = .object(link) }
        switch type {
        case .partition: object.detail = try partition(parsed)
        case .signature: object.detail = try signature(parsed)
        case .billOfMaterials:
            guard let format = parsed["sbomformat"].flatMap(BillOfMaterialsFormat.init(name:)) else {
                throw CommandError(
                    "--sbomformat is needed; choose one of \(BillOfMaterialsFormat.allCases.map(\.name).joined(separator: ", "))")
            }
            object.detail = .billOfMaterials(format)
        default: break
        }
        return object
    }

    private static func number32(_ parsed: ParsedArguments, _ name: String) throws -> UInt32? {
        guard let text = parsed[name] else { return nil }
        guard let number = UInt32(text) else { throw CommandError("--\(name) \(text) is not a number") }
        return number
    }

    private static func partition(_ parsed: ParsedArguments) throws -> ObjectDetail {
        guard let kind = try number32(parsed, "parttype").flatMap({ PartitionType(rawValue: Int32(clamping: $0)) }) else {
            throw CommandError("--parttype is needed, with a number from 1 to 4")
        }
        guard let system = try number32(parsed, "partfs").flatMap({ FileSystemType(rawValue: Int32(clamping: $0)) }) else {
            throw CommandError("--partfs is needed, with a number from 1 to 4")
        }
        guard let index = try number32(parsed, "partarch"), index >= 1, Int(index) <= Architecture.all.count else {
            throw CommandError("--partarch is needed, with a number from 1 to \(Architecture.all.count)")
        }
        return .partition(system, kind, Architecture.all[Int(index) - 1])
    }

    private static func signature(_ parsed: ParsedArguments) throws -> ObjectDetail {
        guard let hash = try number32(parsed, "signhash").flatMap({ HashType(rawValue: Int32(clamping: $0)) }) else {
            throw CommandError("--signhash is needed, with a number from 1 to 5")
        }
        guard let bytes = Hexadecimal.bytes(parsed["signentity"] ?? ""), bytes.count == 20 else {
            throw CommandError("--signentity is needed, with a fingerprint of 40 hexadecimal digits")
        }
        return .signature(hash, fingerprint: bytes)
    }
}
