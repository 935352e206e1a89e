import Archive
import SquashFS

/// Writes a tree as a tar.
public struct TarSink {
    private let writer: TarWriter
    private let latestTime: Int64?

    public init(_ writer: TarWriter, latestTime: Int64?) {
        self.writer = writer
        self.latestTime = latestTime
    }

    /// Writes all but the root directory, parents first, each directory's names in the order of their bytes.
    public func write(_ root: Node) throws {
        var written: [ObjectIdentifier: [UInt8]] = [:]
        var pending: [(node: Node, path: [UInt8])] = [(root, [])]
        while let (node, path) = pending.popLast() {
            if !path.isEmpty {
                let key = ObjectIdentifier(node)
                if !node.isDirectory, let first = written[key] {
                    try writer.add(entry(node, path, .hardLink(target: first), size: 0))
                    continue
                }
                written[key] = path
                try write(node, path)
            }
            guard let directory = node.directory else { continue }
            for (name, child) in directory.sorted.reversed() {
                pending.append((child, path.isEmpty ? name : path + [UInt8(ascii: "/")] + name))
            }
        }
    }

    private func write(_ node: Node, _ path: [UInt8]) throws {
        switch node.content {
        case .directory: try writer.add(entry(node, path + [UInt8(ascii: "/")], .directory, size: 0))
        case .file(let content): try writer.add(entry(node, path, .file, size: content.size), content: try content.stream())
        case .symlink(let target): try writer.add(entry(node, path, .symlink(target: target), size: 0))
        case .blockDevice(let number): try writer.add(entry(node, path, .blockDevice(Self.device(number)), size: 0))
        case .characterDevice(let number): try writer.add(entry(node, path, .characterDevice(Self.device(number)), size: 0))
        case .fifo: try writer.add(entry(node, path, .fifo, size: 0))
        case .socket: break
        }
    }

    private static func device(_ number: UInt32) -> UInt64 {
        let major = UInt64(number >> 8 & 0xfff)
        let minor = UInt64(number & 0xff | number >> 12 & 0xfff00)
        return major << 8 | minor & 0xff | (minor & ~0xff) << 12
    }

    private func entry(_ node: Node, _ path: [UInt8], _ kind: TarEntry.Kind, size: UInt64) -> TarEntry {
        let attributes = node.attributes
        return TarEntry(
            path: path, kind: kind, mode: attributes.mode, uid: Int64(attributes.uid), gid: Int64(attributes.gid),
            modificationTime: min(attributes.modificationTime, latestTime ?? .max), size: Int64(size),
            xattrs: attributes.xattrs.map { ($0.name, $0.value) })
    }
}

extension FileContent {
    /// Bytes of the file.
    public var size: UInt64 {
        switch self {
        case .empty: 0
        case .bytes(let bytes): UInt64(bytes.count)
        case .stored(let file): file.size
        case .image(_, let layout): layout.size
        case .host(let file): file.size
        case .foreign(let file): file.size
        }
    }
}
