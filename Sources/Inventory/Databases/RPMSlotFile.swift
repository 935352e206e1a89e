/// The database of RPM on openSUSE ("ndb", `Packages.db`): pages of slots, and blobs in blocks of 16 bytes, as RPM's own
/// source lays down (lib/backend/ndb/rpmpkg.c). Numbers are little-endian.
struct RPMSlotFile {
    private let bytes: [UInt8]

    private static let fileMagic = Array("RpmP".utf8)
    private static let slotMagic = Array("Slot".utf8)
    private static let blobMagic = Array("BlbS".utf8)
    private static let slotSize = 16
    private static let blockSize = 16
    private static let pageSize = 4096
    /// Bytes before and behind what a blob holds.
    private static let blobHead = 16
    private static let blobTail = 12

    /// - Throws: where it is no such file.
    init(_ bytes: [UInt8]) throws(RPMDatabase.Failure) {
        guard bytes.count >= Self.pageSize, bytes.starts(with: Self.fileMagic) else {
            throw RPMDatabase.Failure(description: "it is no database of RPM")
        }
        self.bytes = bytes
    }

    /// The headers of all packages.
    func headers() throws(RPMDatabase.Failure) -> [[UInt8]] {
        let (size, overflow) = word(12).multipliedReportingOverflow(by: Self.pageSize)
        guard word(4) == 0, !overflow, size <= bytes.count else { throw RPMDatabase.Failure(description: "its slots are cut short") }
        var found: [[UInt8]] = []
        // The header of the file takes the first two slots.
        for slot in stride(from: 2 * Self.slotSize, to: size, by: Self.slotSize) {
            guard bytes[slot...].starts(with: Self.slotMagic) else { throw corrupt(slot) }
            let (number, block, count) = (word(slot + 4), word(slot + 8), word(slot + 12))
            if block == 0 { continue }
            let start = block * Self.blockSize
            let room = count * Self.blockSize
            guard start >= size, room >= Self.blobHead + Self.blobTail, room <= bytes.count - start,
                bytes[start...].starts(with: Self.blobMagic), word(start + 4) == number
            else { throw corrupt(slot) }
            let length = word(start + 12)
            guard length <= room - Self.blobHead - Self.blobTail else { throw corrupt(slot) }
            found.append(Array(bytes[start + Self.blobHead..<start + Self.blobHead + length]))
        }
        return found
    }

    /// 32 bits; the offset is within the file.
    private func word(_ offset: Int) -> Int { bytes[offset..<offset + 4].reversed().reduce(0) { $0 << 8 | Int($1) } }

    private func corrupt(_ slot: Int) -> RPMDatabase.Failure { RPMDatabase.Failure(description: "the slot at byte \(slot) is damaged") }
}
