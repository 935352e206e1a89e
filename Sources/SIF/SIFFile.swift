import BlockIO
import Glibc
import Linux

/// A SIF file: its header and the descriptors in use.
public struct SIFFile: Sendable {
    /// The path, for messages.
    public let name: String
    /// The header as it stands in the file.
    public private(set) var header: Header
    /// One element a slot of the table, nil where it is free.
    public private(set) var slots: [Descriptor?]
    /// The bytes that were read, of which signatures cover more than is understood; nil for a new file.
    public let stored: StoredHead?

    /// Header and table as they stand in a file.
    public struct StoredHead: Sendable {
        /// The 128 bytes of the header.
        public let header: [UInt8]
        /// The bytes of the descriptor table.
        public let table: [UInt8]

        /// The 585 bytes of a slot.
        public func slot(_ index: Int) -> ArraySlice<UInt8> {
            table[index * Descriptor.byteCount..<(index + 1) * Descriptor.byteCount]
        }
    }

    /// The objects in the order of the table.
    public var descriptors: [Descriptor] { slots.compactMap(\.self) }

    /// More slots than any program writes are taken for a lie that would eat memory.
    private static let mostSlots: Int64 = 1 << 20

    /// Reads a SIF.
    public init(reading source: some BlockSource) throws(SIFError) {
        name = source.name
        do {
            let count = min(Header.byteCount, Int(clamping: source.size))
            let head = try source.bytes(at: 0, count: count)
            header = try Header(parsing: head.span.bytes, name: source.name, fileSize: source.size)
            guard header.descriptorsTotal <= Self.mostSlots else {
                throw SIFError.corrupt(name: source.name, what: "its header tells of \(header.descriptorsTotal) descriptors")
            }
            let table = try source.bytes(
                at: UInt64(header.descriptorsOffset), count: Int(header.descriptorsTotal) * Descriptor.byteCount)
            stored = StoredHead(header: head, table: table)
            slots = []
            for slot in 0..<Int(header.descriptorsTotal) {
                let range = slot * Descriptor.byteCount..<(slot + 1) * Descriptor.byteCount
                slots.append(
                    try Descriptor(
                        parsing: table.span.bytes.extracting(range), name: source.name, fileSize: source.size))
            }
        } catch let error as SIFError { throw error } catch let error as BlockError { throw .block(error) } catch {
            throw .corrupt(name: source.name, what: "\(error)")
        }
    }

    /// An empty container.
    public init(name: String, header: Header) {
        self.name = name
        self.header = header
        stored = nil
        slots = Array(repeating: nil, count: Int(header.descriptorsTotal))
    }

    /// Whether a source starts like a SIF.
    public static func isSIF(_ source: any BlockSource) -> Bool {
        guard let head = try? source.bytes(at: 32, count: Header.magic.count) else { return false }
        return head == Header.magic
    }

    /// The object of an id.
    /// - Throws: ``SIFError`` where there is none.
    public func descriptor(id: UInt32) throws(SIFError) -> Descriptor {
        guard id > 0 else { throw .refused("invalid object ID") }
        guard let found = descriptors.first(where: { $0.id == id }) else { throw .noObject(id: id) }
        return found
    }

    /// The partition with the root file system.
    public var primaryPartition: Descriptor? { descriptors.first { $0.partition?.type == .primarySystem } }

    /// Partitions with changes to be laid over the primary one. One that is linked to another partition is not meant.
    public var overlayPartitions: [Descriptor] { descriptors.filter { $0.partition?.type == .overlay } }

    /// The first object of a type and name.
    public func first(_ type: DataType, named name: String? = nil) -> Descriptor? {
        descriptors.first { $0.type == type && (name == nil || $0.name == name) }
    }

    // MARK: Changes of the table

    /// Where the objects that are there end.
    public var dataEnd: Int64 { descriptors.map(\.end).max() ?? header.dataOffset }

    /// The table and then the header, as they stand in the file.
    var headBytes: (header: [UInt8], table: [UInt8]) {
        let empty = [UInt8](repeating: 0, count: Descriptor.byteCount)
        return (header.bytes, slots.flatMap { $0?.bytes ?? empty })
    }

    /// Takes a slot for an object that will be written at the position in the result.
    mutating func reserve(_ object: NewObject, size: Int64, now: Int64) throws(SIFError) -> Descriptor {
        guard let slot = slots.firstIndex(where: { $0 == nil }) else {
            throw .refused("insufficient descriptor capacity to add data object(s) to image")
        }
        guard object.name.utf8.count <= Descriptor.longestName else { throw .refused("name value too large") }
        if case .partition(_, .primarySystem, let architecture) = object.detail {
            guard primaryPartition == nil else { throw .refused("image already contains a primary partition") }
            header.architecture = architecture
        }
        let end = dataEnd
        let alignment = Int64(max(1, object.alignment))
        let start = (end + alignment - 1) / alignment * alignment
        let descriptor = Descriptor(
            rawType: object.type.rawValue, id: UInt32(slot + 1), rawGroup: Descriptor.groupMask | object.group,
            rawLink: object.link.rawValue, offset: start, size: size, sizeWithPadding: start - end + size, created: now,
            modified: now, name: object.name, detail: object.detail)
        slots[slot] = descriptor
        header.descriptorsFree -= 1
        header.dataSize = end - header.dataOffset + descriptor.sizeWithPadding
        header.modified = now
        return descriptor
    }

    /// Corrects the size of an object whose length was not known before, the last one in the file.
    mutating func setSize(of id: UInt32, to size: Int64) {
        guard let slot = slots.firstIndex(where: { $0?.id == id }), var descriptor = slots[slot] else { return }
        header.dataSize += size - descriptor.size
        descriptor.sizeWithPadding += size - descriptor.size
        descriptor.size = size
        slots[slot] = descriptor
    }

    mutating func remove(id: UInt32, now: Int64) throws(SIFError) {
        let descriptor = try descriptor(id: id)
        guard let slot = slots.firstIndex(where: { $0?.id == id }) else { throw .noObject(id: id) }
        if descriptor.partition?.type == .primarySystem { header.architecture = .unknown }
        slots[slot] = nil
        header.descriptorsFree += 1
        header.modified = now
    }

    /// Makes a system partition the one that is run.
    /// - Returns: false where it was that already.
    mutating func setPrimary(id: UInt32, now: Int64) throws(SIFError) -> Bool {
        let target = try descriptor(id: id)
        guard case .partition(let fileSystem, let type, let architecture) = target.detail else {
            throw .refused("data object not a partition")
        }
        if type == .primarySystem { return false }
        guard type == .system else { throw .refused("data object not a system partition") }
        for slot in slots.indices {
            guard var descriptor = slots[slot] else { continue }
            if case .partition(let oldSystem, .primarySystem, let oldArchitecture) = descriptor.detail {
                descriptor.detail = .partition(oldSystem, .system, oldArchitecture)
            } else if descriptor.id == id {
                descriptor.detail = .partition(fileSystem, .primarySystem, architecture)
            } else {
                continue
            }
            descriptor.modified = now
            slots[slot] = descriptor
        }
        header.architecture = architecture
        header.modified = now
        return true
    }

    mutating func setGroup(id: UInt32, to group: UInt32, now: Int64) throws(SIFError) {
        guard let slot = slots.firstIndex(where: { $0?.id == id }) else { throw .noObject(id: id) }
        slots[slot]?.rawGroup = Descriptor.groupMask | group
        slots[slot]?.modified = now
        header.modified = now
    }

    mutating func stamp(id: [UInt8], created: Int64) {
        header.id = id
        header.created = created
        header.modified = created
    }
}

/// An object that shall be added.
public struct NewObject: Sendable {
    /// What the object is.
    public var type: DataType
    /// 0 for none.
    public var group: UInt32
    /// What it belongs to.
    public var link: Descriptor.Link
    /// At most ``Descriptor/longestName`` bytes of UTF-8.
    public var name: String
    /// What only objects of this type have.
    public var detail: ObjectDetail
    /// Bytes; 1 for none.
    public var alignment: Int

    /// - Parameter alignment: nil takes what the format asks for: 4096 for partitions, none for the rest.
    public init(
        _ type: DataType, group: UInt32 = 1, link: Descriptor.Link = .none, name: String = "",
        detail: ObjectDetail = .none, alignment: Int? = nil
    ) {
        self.type = type
        self.group = group
        self.link = link
        self.name = name
        self.detail = detail
        self.alignment = alignment ?? (type == .partition ? 4096 : 1)
    }
}
