/// The path of a layer entry, checked and cut into names.
struct EntryPath {
    /// Names from the root; empty for the root itself.
    let components: [[UInt8]]

    /// The longest path that a program on Linux can name.
    private static let longest = 4096
    private static let longestName = 255

    /// - Throws: ``TreeError/badEntry(layer:path:why:)`` for absolute paths, `..`, and names that no file system has.
    init(_ raw: [UInt8], layer: String) throws(TreeError) {
        func bad(_ why: String) -> TreeError {
            .badEntry(layer: layer, path: String(decoding: raw.prefix(300), as: UTF8.self), why: why)
        }
        if raw.first == UInt8(ascii: "/") { throw bad("has an absolute name") }
        if raw.contains(0) { throw bad("has a NUL in its name") }
        if raw.count > Self.longest { throw bad("has a name of \(raw.count) bytes") }
        var components: [[UInt8]] = []
        for part in raw.split(separator: UInt8(ascii: "/")) where !part.elementsEqual([UInt8(ascii: ".")]) {
            if part.elementsEqual([UInt8(ascii: "."), UInt8(ascii: ".")]) { throw bad("leads out of the tree with \"..\"") }
            if part.count > Self.longestName { throw bad("has a name of \(part.count) bytes") }
            components.append([UInt8](part))
        }
        self.components = components
    }

    var text: String { components.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/") }
}
