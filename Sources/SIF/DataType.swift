/// What a data object is ("SIF, data types").
public enum DataType: Int32, Sendable, CaseIterable {
    case definitionFile = 0x4001
    case environment = 0x4002
    case labels = 0x4003
    case partition = 0x4004
    case signature = 0x4005
    case genericJSON = 0x4006
    case generic = 0x4007
    case cryptographicMessage = 0x4008
    case billOfMaterials = 0x4009
    case ociRootIndex = 0x400A
    case ociBlob = 0x400B

    /// The name that `sif list` prints.
    public var name: String {
        switch self {
        case .definitionFile: "Def.FILE"
        case .environment: "Env.Vars"
        case .labels: "JSON.Labels"
        case .partition: "FS"
        case .signature: "Signature"
        case .genericJSON: "JSON.Generic"
        case .generic: "Generic/Raw"
        case .cryptographicMessage: "Cryptographic Message"
        case .billOfMaterials: "SBOM"
        case .ociRootIndex: "OCI.RootIndex"
        case .ociBlob: "OCI.Blob"
        }
    }
}

/// What a partition holds.
public enum FileSystemType: Int32, Sendable, CaseIterable {
    case squashFS = 1
    case ext3 = 2
    case archive = 3
    case raw = 4
    /// A LUKS2 volume with a SquashFS in it.
    case encryptedSquashFS = 5
    /// A SquashFS with one gocryptfs file in it.
    case gocryptfsSquashFS = 6

    /// Whether the content is of no use without a key.
    public var isEncrypted: Bool { self == .encryptedSquashFS || self == .gocryptfsSquashFS }

    /// As `sif list` and the peers print it.
    public var name: String {
        switch self {
        case .squashFS: "Squashfs"
        case .ext3: "Ext3"
        case .archive: "Archive"
        case .raw: "Raw"
        case .encryptedSquashFS: "Encrypted squashfs"
        case .gocryptfsSquashFS: "Gocryptfs squashfs"
        }
    }
}

/// What a partition is for.
public enum PartitionType: Int32, Sendable, CaseIterable {
    case system = 1
    /// The root file system; one an image at the most.
    case primarySystem = 2
    case data = 3
    case overlay = 4

    /// As `sif list` and the peers print it.
    public var name: String {
        switch self {
        case .system: "System"
        case .primarySystem: "*System"
        case .data: "Data"
        case .overlay: "Overlay"
        }
    }
}

/// Hash of a signature, by its number.
public enum HashType: Int32, Sendable, CaseIterable {
    case sha256 = 1
    case sha384, sha512, blake2s256, blake2b256

    /// As `sif info` prints it.
    public var name: String { ["SHA-256", "SHA-384", "SHA-512", "BLAKE2s-256", "BLAKE2b-256"][Int(rawValue) - 1] }
}

/// Format of a bill of materials, by its number.
public enum BillOfMaterialsFormat: Int32, Sendable, CaseIterable {
    case cycloneDXJSON = 1
    case cycloneDXXML, gitHubJSON, spdxJSON, spdxRDF, spdxTagValue, spdxYAML, syftJSON

    /// As `sif list` and the peers print it.
    public var name: String {
        [
            "cyclonedx-json", "cyclonedx-xml", "github-json", "spdx-json", "spdx-rdf", "spdx-tag-value", "spdx-yaml",
            "syft-json",
        ][Int(rawValue) - 1]
    }

    /// - Parameter name: as ``name`` has it; nil for any other.
    public init?(name: String) {
        guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }
}

/// The type-specific 384 bytes of a descriptor.
public enum ObjectDetail: Equatable, Sendable {
    case none
    case partition(FileSystemType, PartitionType, Architecture)
    /// The hash, and the signer's 20-byte OpenPGP fingerprint where there is one.
    case signature(HashType, fingerprint: [UInt8]?)
    /// Format (1 OpenPGP, 2 PEM) and kind (0x100 clear signature, 0x200 RSA-OAEP).
    case message(format: Int32, kind: Int32)
    case billOfMaterials(BillOfMaterialsFormat)
    /// `sha256:…` of the object itself.
    case digest(String)
    /// Bytes that no known type explains; kept as they are.
    case other([UInt8])

    /// Bytes of the field.
    static let byteCount = 384
}
