/// Packages of Fedora, SUSE and their kin, in each of the databases that RPM has had; the headers in them are those of RPM
/// packages ("RPM package format").
enum RPMDatabase {
    static let places = [
        "/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages", "/var/lib/rpm/Packages.db",
        "/usr/lib/sysimage/rpm/Packages.db",
    ]

    struct Failure: Error, CustomStringConvertible { let description: String }

    /// Numbers of entries in a header.
    private enum Tag {
        static let name: UInt32 = 1000
        static let version: UInt32 = 1001
        static let release: UInt32 = 1002
        static let epoch: UInt32 = 1003
        static let vendor: UInt32 = 1011
        static let license: UInt32 = 1014
        static let url: UInt32 = 1020
        static let architecture: UInt32 = 1022
    }

    static func packages(_ bytes: [UInt8], _ path: String) throws(Failure) -> [InstalledPackage] {
        guard !bytes.isEmpty else { throw Failure(description: "it is empty, or too large to be read") }
        let headers =
            if path.hasSuffix(".sqlite") {
                try RPMSQLiteFile.headers(bytes)
            } else if path.hasSuffix(".db") {
                try RPMSlotFile(bytes).headers()
            } else {
                try RPMBerkeleyFile(bytes).values()
            }
        return headers.compactMap { package($0, path) }
    }

    /// 32 bits in network order; nil where they are not all there.
    static func word(_ bytes: [UInt8], _ offset: Int) -> UInt32? {
        guard offset >= 0, offset + 4 <= bytes.count else { return nil }
        return bytes[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }

    /// Reads a header: counts, an index of entries, and their data.
    private static func package(_ header: [UInt8], _ path: String) -> InstalledPackage? {
        func word(_ offset: Int) -> UInt32? { Self.word(header, offset) }
        guard let entries = word(0), entries <= 1 << 16 else { return nil }
        let data = 8 + Int(entries) * 16
        var texts: [UInt32: String] = [:]
        var epoch: UInt32?
        for index in 0..<Int(entries) {
            let entry = 8 + index * 16
            guard let tag = word(entry), let type = word(entry + 4), let offset = word(entry + 8) else { return nil }
            let start = data + Int(offset)
            guard start < header.count else { continue }
            switch type {
            case 4 where tag == Tag.epoch: epoch = word(start)
            // A text, or the first of several.
            case 6, 8, 9: texts[tag] = texts[tag] ?? String(decoding: header[start...].prefix { $0 != 0 }, as: UTF8.self)
            default: break
            }
        }
        // Keys of signers are kept like packages.
        guard let name = texts[Tag.name], let version = texts[Tag.version], name != "gpg-pubkey" else { return nil }
        var package = InstalledPackage(
            .rpm, name: name, version: texts[Tag.release].map { "\(version)-\($0)" } ?? version, architecture: texts[Tag.architecture],
            license: texts[Tag.license], supplier: texts[Tag.vendor], homepage: texts[Tag.url], source: path)
        if let epoch, epoch > 0 { package.qualifiers["epoch"] = "\(epoch)" }
        return package
    }
}
