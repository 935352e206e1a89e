import BlockIO
import Cryptography
import Encryption
import Glibc
import ImageTree
import Linux
import SIF
import SquashFS

/// How the file systems of an image are encrypted: those that are only read as the peers do it without root (gocryptfs), those
/// that are written to block by block (``EncryptedVolume``).
public struct ImageEncryption: Sendable {
    /// What opens it.
    let passphrase: SecretBytes
    /// The pass phrase for owners of keys (``WrappedKey``). Without any, it is one that people know.
    private let messages: [[UInt8]]
    /// Nobody has chosen the pass phrase.
    private let isRandom: Bool

    /// For people who know a pass phrase.
    public init(passphrase: SecretBytes) {
        self.init(passphrase: passphrase, messages: [])
    }

    /// As another image is encrypted.
    /// - Parameter messages: the pass phrase for owners of keys.
    public init(passphrase: SecretBytes, messages: [[UInt8]]) {
        self.passphrase = passphrase
        self.messages = messages
        isRandom = false
    }

    /// For the owners of keys.
    public init(recipients: [Recipient]) throws {
        let passphrase = try SealedImage.randomPassphrase()
        self.passphrase = passphrase
        messages = try recipients.map { try WrappedKey.wrap(passphrase, for: $0) }
        isRandom = true
    }

    /// Writes the header of an encrypted file system into a part of a file that is a hole.
    /// - Parameters:
    ///   - offset: where the part begins, bytes.
    ///   - name: of the file, for messages.
    public func makeVolume(_ file: CInt, at offset: UInt64, name: String) throws(EncryptionError) -> VolumeKey {
        try EncryptedVolume.make(file, at: offset, passphrase, messages: messages, isRandom: isRandom, name: name)
    }

    /// Adds the encrypted file system to a SIF, and its wrapped keys.
    /// - Parameter writePlain: writes the plain one to the start of a file, and returns its size. The file has no name.
    public func write(
        to sif: SIFWriter, _ output: OutputFile, type: PartitionType, _ architecture: Architecture, writePlain: (CInt) throws -> UInt64
    ) throws {
        let spool = SharedDescriptor(try OutputFile.unnamed(beside: output.path))
        let size = try writePlain(spool.rawValue)
        let plain = try SliceSource(try FileSource(spool, name: output.path), offset: 0, size: size)
        let sealed = try SealedImage(plain, passphrase, isRandom: isRandom)
        let partition = NewObject(.partition, detail: .partition(.gocryptfsSquashFS, type, architecture))
        try sif.add(partition) { (position: UInt64) throws -> UInt64 in
            var options = WriterOptions(compressor: .gzip, threads: 1)
            options.compressesData = false
            let writer = try ImageWriter(output.descriptor, at: position, options: options, name: output.path)
            let root = Node.directory(mode: 0o755)
            root.directory?["gocryptfs.conf"] = Node(.file(.bytes(sealed.configuration)), Attributes(mode: 0o400))
            root.directory?[sealed.fileName] = Node(
                .file(.foreign(ForeignFile(size: sealed.size) { try sealed.open() })), Attributes(mode: 0o644))
            var sink = SquashFSSink(writer, latestTime: nil)
            return try sink.write(root)
        }
        guard let id = sif.file.descriptors.last(where: { $0.partition?.fileSystem == .gocryptfsSquashFS })?.id else { return }
        for message in messages {
            try sif.add(NewObject(.cryptographicMessage, link: .object(id), detail: WrappedKey.detail), message)
        }
    }
}
