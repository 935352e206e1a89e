/// What a shared library says of itself for the dynamic loader: names and versions (ELF of 64 bits in little endian, elf(5); the
/// version tables as in the Linux Standard Base, "Symbol Versioning").
package struct SharedObject {
    /// The name that others ask for it by.
    package private(set) var name: String?
    /// Names of the libraries that it needs.
    package private(set) var needed: [String] = []
    /// Versions that it needs, such as GLIBC_2.34, by the library that has them.
    package private(set) var neededVersions: [String: [String]] = [:]
    /// Versions that it has.
    package private(set) var versions: [String] = []

    /// More than any real library has.
    private static let largestTable = 1 << 20

    /// Nil where it is no such library, or a broken one.
    package init?(_ file: RootFile) {
        guard let header = file.bytes(at: 0, count: 64).map(Fields.init), header.bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1]),
            let count = header.half(56), let size = header.half(54), size == 56, let start = header.word(32),
            let table = file.bytes(at: start, count: count * size).map(Fields.init)
        else { return nil }
        var loads: [Segment] = []
        var dynamic: Segment?
        for index in 0..<count {
            let entry = index * size
            guard let type = table.int(entry), let offset = table.word(entry + 8), let address = table.word(entry + 16),
                let length = table.word(entry + 32)
            else { return nil }
            let segment = Segment(offset: offset, address: address, size: length)
            if type == 1 { loads.append(segment) }
            if type == 2 { dynamic = segment }
        }
        guard let dynamic, dynamic.size <= Self.largestTable,
            let entries = file.bytes(at: dynamic.offset, count: dynamic.size).map(Fields.init)
        else { return nil }
        guard read(file, entries, loads) else { return nil }
    }

    private struct Segment {
        var offset: Int
        var address: Int
        var size: Int
    }

    /// Tags of the dynamic section.
    private enum Tag {
        static let needed = 1
        static let strings = 5
        static let stringsSize = 10
        static let name = 14
        static let neededVersions = 0x6fff_fffe
        static let neededVersionsCount = 0x6fff_ffff
        static let versions = 0x6fff_fffc
        static let versionsCount = 0x6fff_fffd
    }

    private mutating func read(_ file: RootFile, _ entries: Fields, _ loads: [Segment]) -> Bool {
        var values: [Int: Int] = [:]
        var names: [Int] = []
        for index in 0..<entries.bytes.count / 16 {
            guard let tag = entries.word(index * 16), let value = entries.word(index * 16 + 8) else { return false }
            if tag == 0 { break }
            if tag == Tag.needed { names.append(value) } else { values[tag] = value }
        }
        /// Bytes at an address of the loaded library, up to the segment's end.
        func table(_ address: Int?, _ size: Int) -> Fields? {
            guard let address, let load = loads.first(where: { address >= $0.address && address - $0.address < $0.size }) else {
                return nil
            }
            let within = address - load.address
            let (offset, overflow) = load.offset.addingReportingOverflow(within)
            guard !overflow else { return nil }
            return file.bytes(at: offset, count: min(size, load.size - within, max(0, file.size - offset))).map(Fields.init)
        }
        guard let size = values[Tag.stringsSize], size <= 64 * Self.largestTable, let strings = table(values[Tag.strings], size) else {
            return false
        }
        needed = names.compactMap(strings.text)
        name = values[Tag.name].flatMap(strings.text)
        if let count = values[Tag.neededVersionsCount], let needs = table(values[Tag.neededVersions], Self.largestTable) {
            readNeeds(needs, count, strings)
        }
        if let count = values[Tag.versionsCount], let defined = table(values[Tag.versions], Self.largestTable) {
            readDefinitions(defined, count, strings)
        }
        return true
    }

    /// Elfxx_Verneed, and its chain of Elfxx_Vernaux. The counts bound the chains.
    private mutating func readNeeds(_ table: Fields, _ count: Int, _ strings: Fields) {
        var entry = 0
        for _ in 0..<min(count, 4096) {
            guard let versions = table.half(entry + 2), let file = table.int(entry + 4), let first = table.int(entry + 8),
                let next = table.int(entry + 12), let library = strings.text(file)
            else { return }
            var auxiliary = entry + first
            for _ in 0..<versions {
                guard let name = table.int(auxiliary + 8), let after = table.int(auxiliary + 12) else { return }
                if let text = strings.text(name) { neededVersions[library, default: []].append(text) }
                if after == 0 { break }
                auxiliary += after
            }
            if next == 0 { return }
            entry += next
        }
    }

    /// Elfxx_Verdef; the first of its Elfxx_Verdaux is its name.
    private mutating func readDefinitions(_ table: Fields, _ count: Int, _ strings: Fields) {
        var entry = 0
        for _ in 0..<min(count, 4096) {
            guard let first = table.int(entry + 12), let next = table.int(entry + 16), let name = table.int(entry + first) else { return }
            if let text = strings.text(name) { versions.append(text) }
            if next == 0 { return }
            entry += next
        }
    }
}

/// Numbers and texts at places of a table; nil outside of it.
private struct Fields {
    let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private func number(_ offset: Int, _ count: Int) -> UInt64? {
        guard offset >= 0, offset <= bytes.count - count else { return nil }
        return (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
    }

    func half(_ offset: Int) -> Int? { number(offset, 2).map { Int($0) } }
    func int(_ offset: Int) -> Int? { number(offset, 4).map { Int($0) } }
    /// Nil also where it is larger than any place in a file.
    func word(_ offset: Int) -> Int? { number(offset, 8).flatMap { Int(exactly: $0) } }

    func text(_ offset: Int) -> String? {
        guard offset >= 0, offset < bytes.count, let end = bytes[offset...].prefix(4096).firstIndex(of: 0) else { return nil }
        return String(decoding: bytes[offset..<end], as: UTF8.self)
    }
}
