import Linux

/// The dynamic loader's list of shared libraries, `/etc/ld.so.cache` in the form that glibc has written since 2.2
/// (dl-cache.h). Read directly: no program of the host is run for it.
package struct LibraryCache {
    /// Name, such as `libcuda.so.1`, and path of each library for this processor.
    package private(set) var libraries: [(name: String, path: String)] = []

    private static let magic = Array("glibc-ld.so.cache1.1".utf8)
    private static let headerSize = 48
    private static let entrySize = 24

    /// What `flags` says of libraries for this processor: the kind is "ELF, libc6".
    private static var wantedFlags: UInt32 {
        #if arch(arm64)
            0x0a03
        #else
            0x0303
        #endif
    }

    /// Nil where it is not such a file.
    package init?(_ bytes: [UInt8]) {
        guard let start = Self.place(of: Self.magic, in: bytes), bytes.count - start >= Self.headerSize else { return nil }
        func word(_ offset: Int) -> UInt32? {
            guard offset >= 0, offset + 4 <= bytes.count else { return nil }
            return (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << (8 * UInt32($1)) }
        }
        func text(_ offset: UInt32) -> String? {
            let from = start + Int(offset)
            guard from < bytes.count, let end = bytes[from...].prefix(4096).firstIndex(of: 0) else { return nil }
            return String(decoding: bytes[from..<end], as: UTF8.self)
        }
        guard let count = word(start + 20), Int(count) <= (bytes.count - start - Self.headerSize) / Self.entrySize else { return nil }
        for index in 0..<Int(count) {
            let entry = start + Self.headerSize + index * Self.entrySize
            guard let flags = word(entry), let key = word(entry + 4), let value = word(entry + 8) else { return nil }
            guard flags == Self.wantedFlags, let name = text(key), let path = text(value) else { continue }
            libraries.append((name, path))
        }
    }

    /// Older files have another table in front.
    private static func place(of magic: [UInt8], in bytes: [UInt8]) -> Int? {
        var offset = 0
        while offset + magic.count <= bytes.count {
            if bytes[offset..<(offset + magic.count)].elementsEqual(magic) { return offset }
            // Tables are aligned.
            offset += 4
        }
        return nil
    }
}
