import BlockIO
import Compression
import Crypto
import Registry

/// One layer of an image, wherever it comes from.
public struct LayerSource {
    /// For messages, such as `layer sha256:1234…`.
    public var name: String
    /// What the layer's plain tar must hash to, where the image's configuration says so.
    public var diffID: String?
    /// Opens the layer's bytes as they are stored, compressed or not.
    public var open: () throws -> any ByteStream
    /// Checks the stored bytes after the layer turned out to make no sense: bytes that are not what was promised explain
    /// it better than what was wrong in them.
    public var verify: () throws -> Void

    public init(
        name: String, diffID: String?, open: @escaping () throws -> any ByteStream, verify: @escaping () throws -> Void = {}
    ) {
        self.name = name
        self.diffID = diffID
        self.open = open
        self.verify = verify
    }

    /// The plain tar, decompressed and hashed in a thread of its own. A wrong hash is an error at its end.
    func openPlain() throws -> any ByteStream {
        let plain = NamedStream(try DecompressingStream(try open()), layer: name)
        guard let diffID, diffID.hasPrefix("sha256:") else { return try ReadAheadStream(plain) }
        let hash = RunningHash()
        return CheckedStream(try ReadAheadStream(plain) { hash.update($0) }, hash, expected: diffID, layer: name)
    }
}

/// Says in errors which layer they are about.
private final class NamedStream: ByteStream {
    private let input: any ByteStream
    private let layer: String

    init(_ input: any ByteStream, layer: String) {
        self.input = input
        self.layer = layer
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        do { return try input.read(into: buffer) } catch let error as CompressionError {
            throw BuildError.badSource(layer, why: "\(error)")
        }
    }
}

/// SHA-256 that the read-ahead thread feeds and the reader asks for once that thread has seen the end.
private final class RunningHash {
    private var hash = SHA256()
    func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }
    var text: String { "sha256:" + hash.finalize().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
}

private final class CheckedStream: ByteStream {
    private let input: ReadAheadStream
    private let hash: RunningHash
    private let expected: String
    private let layer: String
    private var isChecked = false

    init(_ input: ReadAheadStream, _ hash: RunningHash, expected: String, layer: String) {
        self.input = input
        self.hash = hash
        self.expected = expected
        self.layer = layer
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        let count = try input.read(into: buffer)
        if count == 0 && !isChecked {
            isChecked = true
            let found = hash.text
            guard found == expected else {
                throw BuildError.digestMismatch(layer: layer, expected: expected, found: found)
            }
        }
        return count
    }
}

extension RegistryImage {
    /// The layers as ``LayerSource``, from the oldest to the newest.
    public var layerSources: [LayerSource] {
        let ids = configuration.rootfs?.diff_ids ?? []
        return layers.enumerated().map { index, download in
            LayerSource(
                name: "layer \(download.digest.short) of \(reference)", diffID: index < ids.count ? ids[index] : nil,
                open: { download.stream() }, verify: { try download.verify() })
        }
    }
}
