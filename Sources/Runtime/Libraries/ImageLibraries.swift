/// Where the dynamic loader of an image, or of the host, would find libraries.
package struct ImageLibraries {
    package let view: RootView
    /// Names and paths of the loader's list.
    private let listed: [(name: String, path: String)]

    package init(_ view: RootView) {
        self.view = view
        listed = view.read("/etc/ld.so.cache", limit: 64 << 20).flatMap { LibraryCache($0) }?.libraries ?? []
    }

    /// Directories that the loader knows without a list, for images that have none.
    private static let usual = [
        "/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu", "/lib", "/usr/lib",
    ]

    /// The path of a library in the loader's list, or in a directory.
    /// - Parameter others: directories to look into where the loader would not find it.
    package func path(of name: String, others: [String] = []) -> String? {
        if let found = listed.first(where: { $0.name == name && view.kind(of: $0.path) == .file })?.path { return found }
        let folders = listed.isEmpty ? Self.usual + others : others
        return folders.lazy.map { "\($0)/\(name)" }.first { view.kind(of: $0) == .file }
    }

    package func has(_ name: String) -> Bool { path(of: name) != nil }

    package func object(_ path: String) -> SharedObject? { view.file(path).flatMap { SharedObject($0) } }
}

/// A version of the GNU C library.
package struct GlibcVersion: Comparable, CustomStringConvertible {
    private let numbers: [Int]

    /// Of a symbol version: `GLIBC_2.34`. Nil for others.
    package init?(_ text: String) {
        // Packed relative relocations came with 2.36.
        if text == "GLIBC_ABI_DT_RELR" {
            numbers = [2, 36]
            return
        }
        guard text.hasPrefix("GLIBC_") else { return nil }
        let parts = text.dropFirst("GLIBC_".count).split(separator: ".").map { Int($0) }
        guard (2...3).contains(parts.count), let numbers = parts as? [Int] else { return nil }
        self.numbers = numbers
    }

    package static func < (left: GlibcVersion, right: GlibcVersion) -> Bool { left.numbers.lexicographicallyPrecedes(right.numbers) }

    package var description: String { numbers.map(String.init).joined(separator: ".") }

    /// The newest that a library needs; nil where it needs none.
    package init?(neededBy object: SharedObject) {
        guard let newest = object.neededVersions.values.joined().compactMap({ GlibcVersion($0) }).max() else { return nil }
        self = newest
    }

    /// Of an image; nil where it has none, or none that can be told.
    package init?(of libraries: ImageLibraries) {
        guard let path = libraries.path(of: "libc.so.6"), let object = libraries.object(path),
            let newest = object.versions.compactMap({ GlibcVersion($0) }).max()
        else { return nil }
        self = newest
    }
}
