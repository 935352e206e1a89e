import BlockIO

/// The first 128 bytes of a SIF ("SIF, global header"). Times are Unix seconds, sizes and positions bytes.
public struct Header: Equatable, Sendable {
    /// Bytes of the header at the start of the file.
    public static let byteCount = 128
    static let magic: [UInt8] = Array("SIF_MAGIC".utf8) + [0]
    static let version: [UInt8] = Array("01".utf8) + [0]
    /// Bytes of the launch script, with the NUL that ends it.
    static let launchScriptSize = 32
    /// The first line of the file, by which a kernel with binfmt_misc or a shell starts it.
    public static let defaultLaunchScript = "#!/usr/bin/env run-singularity\n"
    /// Where the descriptor table of a new file starts.
    static let descriptorsStart: Int64 = 4096
    /// Slots that a new file has.
    public static let defaultCapacity: Int64 = 48
    /// The time that stands for "none": Go's zero time.
    public static let noTime: Int64 = -62_135_596_800

    /// At most 32 bytes with the NUL behind them.
    public var launchScript: String = Header.defaultLaunchScript
    /// Of the primary system partition.
    public var architecture = Architecture.unknown
    /// 16 bytes of a UUID, all zero for none.
    public var id = [UInt8](repeating: 0, count: 16)
    /// When the file was made, Unix seconds.
    public var created: Int64 = Header.noTime
    /// When the file was changed last, Unix seconds.
    public var modified: Int64 = Header.noTime
    /// Slots of the descriptor table that hold nothing.
    public var descriptorsFree: Int64
    /// Slots of the descriptor table.
    public var descriptorsTotal: Int64
    /// Where the descriptor table begins in the file, bytes.
    public var descriptorsOffset: Int64
    /// Bytes of the descriptor table.
    public var descriptorsSize: Int64
    /// Where the objects may begin in the file, bytes.
    public var dataOffset: Int64
    /// Bytes from there to the end of the last object.
    public var dataSize: Int64 = 0

    /// The header of a file without objects.
    /// - Parameter capacity: slots of the descriptor table.
    public init(capacity: Int64 = Header.defaultCapacity) {
        descriptorsFree = capacity
        descriptorsTotal = capacity
        descriptorsOffset = Self.descriptorsStart
        descriptorsSize = capacity * Int64(Descriptor.byteCount)
        dataOffset = descriptorsOffset + descriptorsSize
    }

    /// Neither an id nor a time: every later change keeps it so.
    public var isDeterministic: Bool {
        id.allSatisfy { $0 == 0 } && created == Self.noTime && modified == Self.noTime
    }

    /// - Parameter fileSize: bytes of the file, which nothing may pass.
    public init(parsing bytes: RawSpan, name: String, fileSize: UInt64) throws(SIFError) {
        guard bytes.byteCount >= Self.byteCount else {
            throw .notSIF(name: name, reason: "reading global header: unexpected EOF")
        }
        var cursor = Cursor()
        do throws(TruncatedError) {
            let script = try cursor.read(count: Self.launchScriptSize, from: bytes)
            launchScript = String(decoding: script.prefix { $0 != 0 }, as: UTF8.self)
            let magic = try cursor.read(count: 10, from: bytes)
            let version = try cursor.read(count: 3, from: bytes)
            let code = try cursor.read(count: 3, from: bytes)
            architecture = Architecture(code: code)
            id = try cursor.read(count: 16, from: bytes)
            created = try cursor.read(from: bytes)
            modified = try cursor.read(from: bytes)
            descriptorsFree = try cursor.read(from: bytes)
            descriptorsTotal = try cursor.read(from: bytes)
            descriptorsOffset = try cursor.read(from: bytes)
            descriptorsSize = try cursor.read(from: bytes)
            dataOffset = try cursor.read(from: bytes)
            dataSize = try cursor.read(from: bytes)
            guard magic == Self.magic else { throw TruncatedError(offset: 32, needed: 0) }
            guard version == Self.version else { throw TruncatedError(offset: 42, needed: 0) }
        } catch {
            throw .notSIF(name: name, reason: error.offset == 42 ? "incompatible SIF version" : "invalid SIF magic")
        }
        try check(name: name, fileSize: fileSize)
    }

    private func check(name: String, fileSize: UInt64) throws(SIFError) {
        let (tableSize, overflow) = descriptorsTotal.multipliedReportingOverflow(by: Int64(Descriptor.byteCount))
        guard descriptorsTotal >= 0, !overflow, tableSize <= descriptorsSize, descriptorsOffset >= Int64(Self.byteCount),
            descriptorsFree >= 0, descriptorsFree <= descriptorsTotal
        else {
            throw .corrupt(name: name, what: "its header tells of \(descriptorsTotal) descriptors")
        }
        let (end, endOverflow) = descriptorsOffset.addingReportingOverflow(tableSize)
        guard !endOverflow, UInt64(end) <= fileSize else {
            throw .corrupt(name: name, what: "its descriptor table lies behind the end of the file")
        }
        guard dataOffset >= 0, dataSize >= 0 else {
            throw .corrupt(name: name, what: "its header has a negative size")
        }
    }

    /// The 128 bytes as the file has them.
    public var bytes: [UInt8] {
        var out = Array(launchScript.utf8.prefix(Self.launchScriptSize - 1))
        out += repeatElement(0, count: Self.launchScriptSize - out.count)
        out += Self.magic + Self.version + architecture.bytes + id
        for value in [
            created, modified, descriptorsFree, descriptorsTotal, descriptorsOffset, descriptorsSize, dataOffset, dataSize,
        ] { out.append(littleEndian: value) }
        return out
    }
}
