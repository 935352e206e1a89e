import BlockIO

/// One entry of the descriptor table ("SIF, descriptor"). Positions and sizes are bytes, times Unix seconds.
public struct Descriptor: Equatable, Sendable {
    /// Bytes of a slot of the descriptor table.
    public static let byteCount = 585
    /// Bytes of a name at the most.
    public static let longestName = 128
    /// Set in group numbers, and in links to a group.
    static let groupMask: UInt32 = 0xF000_0000

    /// The number as stored; ``type`` is nil for one that is not known.
    public var rawType: Int32
    /// Slot number + 1.
    public var id: UInt32
    /// With ``groupMask`` as stored.
    public var rawGroup: UInt32
    /// What the object belongs to, as stored; see ``link-swift.property``.
    public var rawLink: UInt32
    /// Where the object begins in the file, bytes.
    public var offset: Int64
    /// Bytes of the object.
    public var size: Int64
    /// ``size`` and the bytes that were passed over before the object to align it.
    public var sizeWithPadding: Int64
    /// When the object was added, Unix seconds.
    public var created: Int64
    /// When the object was changed last, Unix seconds.
    public var modified: Int64
    /// User who added it; 0 in images that shall be the same wherever they are made.
    public var uid: Int64 = 0
    /// Group of who added it; see ``uid``.
    public var gid: Int64 = 0
    /// At most ``longestName`` bytes of UTF-8.
    public var name: String
    /// What only objects of this type have.
    public var detail: ObjectDetail

    /// Nil for a type that this program does not know.
    public var type: DataType? { DataType(rawValue: rawType) }
    /// The group's number, nil for none.
    public var group: UInt32? {
        let number = rawGroup & ~Self.groupMask
        return number == 0 ? nil : number
    }

    /// What the object belongs to.
    public enum Link: Equatable, Sendable {
        case none
        case object(UInt32)
        case group(UInt32)

        var rawValue: UInt32 {
            switch self {
            case .none: 0
            case .object(let id): id
            case .group(let id): Descriptor.groupMask | id
            }
        }
    }

    /// What the object belongs to.
    public var link: Link {
        if rawLink & Self.groupMask == Self.groupMask { return .group(rawLink & ~Self.groupMask) }
        return rawLink == 0 ? .none : .object(rawLink)
    }

    /// The partition's nature, nil for other objects.
    public var partition: (fileSystem: FileSystemType, type: PartitionType, architecture: Architecture)? {
        if case .partition(let fileSystem, let type, let architecture) = detail { return (fileSystem, type, architecture) }
        return nil
    }

    /// Programs may write to it while the image is in use: an ext file system for changes or data, as it is or encrypted.
    public var isWritablePartition: Bool {
        guard let partition else { return false }
        return (partition.fileSystem == .ext3 || partition.fileSystem == .raw) && (partition.type == .overlay || partition.type == .data)
    }

    /// Where the object ends in the file.
    public var end: Int64 { offset + size }
}

extension Descriptor {
    /// Reads one slot, nil where it is free.
    init?(parsing bytes: RawSpan, name file: String, fileSize: UInt64) throws(SIFError) {
        var cursor = Cursor()
        var raw: [UInt8] = []
        var rawName: [UInt8] = []
        do throws(TruncatedError) {
            rawType = try cursor.read(from: bytes)
            guard try cursor.read(UInt8.self, from: bytes) != 0, rawType != 0 else { return nil }
            id = try cursor.read(from: bytes)
            rawGroup = try cursor.read(from: bytes)
            rawLink = try cursor.read(from: bytes)
            offset = try cursor.read(from: bytes)
            size = try cursor.read(from: bytes)
            sizeWithPadding = try cursor.read(from: bytes)
            created = try cursor.read(from: bytes)
            modified = try cursor.read(from: bytes)
            uid = try cursor.read(from: bytes)
            gid = try cursor.read(from: bytes)
            rawName = try cursor.read(count: Self.longestName, from: bytes)
            raw = try cursor.read(count: ObjectDetail.byteCount, from: bytes)
        } catch { throw .corrupt(name: file, what: "\(error)") }
        name = String(decoding: rawName.prefix { $0 != 0 }, as: UTF8.self)
        detail = ObjectDetail(raw, type: DataType(rawValue: rawType))
        guard id > 0 else { throw .corrupt(name: file, what: "an object has the id 0") }
        let (end, overflow) = offset.addingReportingOverflow(size)
        guard offset >= 0, size >= 0, !overflow, UInt64(end) <= fileSize else {
            throw .corrupt(
                name: file, what: "object \(id) lies at \(offset) with \(size) bytes, the file has \(fileSize)")
        }
    }

    /// The 585 bytes of the slot.
    var bytes: [UInt8] {
        var out: [UInt8] = []
        out.append(littleEndian: rawType)
        out.append(1)
        out.append(littleEndian: id)
        out.append(littleEndian: rawGroup)
        out.append(littleEndian: rawLink)
        for value in [offset, size, sizeWithPadding, created, modified, uid, gid] { out.append(littleEndian: value) }
        let text = Array(name.utf8.prefix(Self.longestName))
        out += text + repeatElement(0, count: Self.longestName - text.count)
        let raw = detail.bytes
        return out + raw + repeatElement(0, count: ObjectDetail.byteCount - raw.count)
    }
}

extension ObjectDetail {
    init(_ raw: [UInt8], type: DataType?) {
        var cursor = Cursor()
        func number() -> Int32 { (try? cursor.read(Int32.self, from: raw.span.bytes)) ?? 0 }
        let used = Array(raw.prefix(1 + (raw.lastIndex { $0 != 0 } ?? -1)))
        let unknown: ObjectDetail = used.isEmpty ? .none : .other(used)
        switch type {
        case .partition:
            guard let fileSystem = FileSystemType(rawValue: number()), let kind = PartitionType(rawValue: number()) else {
                self = unknown
                return
            }
            self = .partition(fileSystem, kind, Architecture(code: raw[8..<11]))
        case .signature:
            guard let hash = HashType(rawValue: number()) else {
                self = unknown
                return
            }
            let fingerprint = Array(raw[4..<24])
            self = .signature(hash, fingerprint: fingerprint.allSatisfy { $0 == 0 } ? nil : fingerprint)
        case .cryptographicMessage: self = .message(format: number(), kind: number())
        case .billOfMaterials: self = BillOfMaterialsFormat(rawValue: number()).map(ObjectDetail.billOfMaterials) ?? unknown
        case .ociRootIndex, .ociBlob: self = .digest(String(decoding: used, as: UTF8.self))
        default: self = unknown
        }
    }

    /// The field's bytes without the zeros that fill it up.
    var bytes: [UInt8] {
        var out: [UInt8] = []
        switch self {
        case .none: break
        case .partition(let fileSystem, let type, let architecture):
            out.append(littleEndian: fileSystem.rawValue)
            out.append(littleEndian: type.rawValue)
            out += architecture.bytes
        case .signature(let hash, let fingerprint):
            out.append(littleEndian: hash.rawValue)
            out += fingerprint ?? []
        case .message(let format, let kind):
            out.append(littleEndian: format)
            out.append(littleEndian: kind)
        case .billOfMaterials(let format): out.append(littleEndian: format.rawValue)
        case .digest(let text): out += text.utf8
        case .other(let raw): out += raw
        }
        return out
    }
}
