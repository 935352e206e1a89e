/// The database of RPM before 4.16, as RHEL 8 and older have it: a hash of Berkeley DB (`Packages`), versions 8 to 10.
///
/// All pages are looked through, without the hash: page headers and items are as Berkeley DB's dbinc/db_page.h and
/// dbinc/hash.h have them. Numbers are in the order of the machine that wrote the file.
struct RPMBerkeleyFile {
    private let bytes: [UInt8]
    private let pageSize: Int
    private let isLittleEndian: Bool

    private static let magic: UInt32 = 0x0006_1561
    private static let headerSize = 26
    /// Types of pages.
    private enum Page {
        static let unsortedHash: UInt8 = 2
        static let overflow: UInt8 = 7
        static let hash: UInt8 = 13
    }
    /// Types of items.
    private enum Item {
        static let within: UInt8 = 1
        static let onOtherPages: UInt8 = 3
    }

    /// - Throws: where it is no such file.
    init(_ bytes: [UInt8]) throws(RPMDatabase.Failure) {
        self.bytes = bytes
        guard let magic = RPMDatabase.word(bytes, 12), let size = RPMDatabase.word(bytes, 20) else {
            throw RPMDatabase.Failure(description: "it is cut short")
        }
        isLittleEndian = magic.byteSwapped == Self.magic
        guard isLittleEndian || magic == Self.magic else { throw RPMDatabase.Failure(description: "it is no hash of Berkeley DB") }
        pageSize = Int(isLittleEndian ? size.byteSwapped : size)
        guard (512...65536).contains(pageSize), pageSize.nonzeroBitCount == 1 else {
            throw RPMDatabase.Failure(description: "its pages have \(pageSize) bytes")
        }
    }

    /// The values of all keys; one of them is a number and no header.
    func values() throws(RPMDatabase.Failure) -> [[UInt8]] {
        var found: [[UInt8]] = []
        for page in 1..<max(1, bytes.count / pageSize) {
            let start = page * pageSize
            let type = bytes[start + 25]
            guard type == Page.hash || type == Page.unsortedHash else { continue }
            let count = try short(start + 20)
            guard Self.headerSize + 2 * count <= pageSize else { throw corrupt(page) }
            // A key, its value, the next key: items fill the page from its end.
            for index in stride(from: 1, to: count, by: 2) {
                let offset = try short(start + Self.headerSize + 2 * index)
                let end = try short(start + Self.headerSize + 2 * (index - 1))
                guard offset >= Self.headerSize + 2 * count, offset < end, end <= pageSize else { throw corrupt(page) }
                switch bytes[start + offset] {
                case Item.within: found.append(Array(bytes[start + offset + 1..<start + end]))
                case Item.onOtherPages:
                    guard end - offset >= 12 else { throw corrupt(page) }
                    found.append(
                        try overflow(first: try word(start + offset + 4), length: Int(try word(start + offset + 8))))
                default: continue
                }
            }
        }
        return found
    }

    /// A value that is longer than a page.
    private func overflow(first: UInt32, length: Int) throws(RPMDatabase.Failure) -> [UInt8] {
        guard length <= bytes.count else { throw corrupt(Int(first)) }
        var value: [UInt8] = []
        var page = Int(first)
        while value.count < length {
            let start = page * pageSize
            guard page > 0, page < bytes.count / pageSize, bytes[start + 25] == Page.overflow else { throw corrupt(page) }
            let count = try short(start + 22)
            // Each page brings something, so that a chain that comes back to itself ends.
            guard count > 0, Self.headerSize + count <= pageSize else { throw corrupt(page) }
            value += bytes[start + Self.headerSize..<start + Self.headerSize + count]
            page = Int(try word(start + 16))
        }
        return Array(value.prefix(length))
    }

    private func short(_ offset: Int) throws(RPMDatabase.Failure) -> Int {
        guard offset + 2 <= bytes.count else { throw corrupt(offset / pageSize) }
        let (first, second) = (Int(bytes[offset]), Int(bytes[offset + 1]))
        return isLittleEndian ? first | second << 8 : first << 8 | second
    }

    private func word(_ offset: Int) throws(RPMDatabase.Failure) -> UInt32 {
        guard let number = RPMDatabase.word(bytes, offset) else { throw corrupt(offset / pageSize) }
        return isLittleEndian ? number.byteSwapped : number
    }

    private func corrupt(_ page: Int) -> RPMDatabase.Failure { RPMDatabase.Failure(description: "page \(page) is damaged") }
}
