import Archive
import BlockIO
import Compression
import Registry

/// The members of a tar on disk, opened by name without unpacking it. The tar may be compressed.
struct ArchiveMembers {
    let path: String

    /// Links from one member to another that are followed.
    private static let mostLinks = 8

    private func reader() throws -> TarReader {
        let file = try FileStream(path: path)
        let plain = try DecompressingStream(file)
        if plain.format != .plain { return try TarReader(plain, name: path) }
        return try TarReader(try FileStream(path: path), name: path)
    }

    /// Names of all members, without `./` in front.
    func names() throws -> Set<String> {
        let reader = try reader()
        var names: Set<String> = []
        while let entry = try reader.next() { names.insert(Self.normal(String(decoding: entry.path, as: UTF8.self))) }
        return names
    }

    /// Opens a member's content; links to other members are followed.
    func open(_ name: String) throws -> any ByteStream {
        var name = Self.normal(name)
        for _ in 0...Self.mostLinks {
            let reader = try reader()
            var next: String?
            while next == nil, let entry = try reader.next() {
                guard Self.normal(String(decoding: entry.path, as: UTF8.self)) == name else { continue }
                switch entry.kind {
                case .file: return MemberStream(reader, reader.content(size: entry.size, path: entry.path))
                case .hardLink(let target): next = Self.normal(String(decoding: target, as: UTF8.self))
                case .symlink(let target): next = Self.resolve(String(decoding: target, as: UTF8.self), from: name)
                default: throw BuildError.badSource(path, why: "its member \(name) is not a file")
                }
            }
            guard let next else { throw BuildError.badSource(path, why: "it has no member \(name)") }
            name = next
        }
        throw BuildError.badSource(path, why: "its member \(name) is a link without an end")
    }

    /// A small member's bytes.
    func document(_ name: String) throws -> [UInt8] {
        let stream = try open(name)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
        defer { buffer.deallocate() }
        var bytes: [UInt8] = []
        while true {
            let count = try stream.read(into: buffer)
            if count == 0 { return bytes }
            bytes += buffer[..<count]
            guard bytes.count <= ManifestDocument.largest else {
                throw BuildError.badSource(path, why: "its member \(name) is larger than \(ManifestDocument.largest) bytes")
            }
        }
    }

    private static func normal(_ name: String) -> String {
        name.split(separator: "/").filter { $0 != "." }.joined(separator: "/")
    }

    private static func resolve(_ target: String, from name: String) -> String {
        var parts = name.split(separator: "/").dropLast().map(String.init)
        for part in target.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(String(part)) }
        }
        return parts.joined(separator: "/")
    }
}

/// A member's content, which keeps the reader that it comes from.
private final class MemberStream: ByteStream {
    private let reader: TarReader
    private let content: TarContent

    init(_ reader: TarReader, _ content: TarContent) {
        self.reader = reader
        self.content = content
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int { try content.read(into: buffer) }
}
