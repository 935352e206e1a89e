import BlockIO
import Cryptography
import Encryption
import Glibc
import ImageTree
import Linux
import SIF
import SquashFS

/// How the file system of an image is encrypted: as the peers do it without root (gocryptfs).
public struct ImageEncryption: Sendable {
    /// What opens it.
    public let passphrase: SecretBytes
    /// Whose keys the pass phrase is wrapped for. Without any, it is one that people know.
    public let recipients: [Recipient]

    /// For people who know a pass phrase.
    public init(passphrase: SecretBytes) {
        self.passphrase = passphrase
        recipients = []
    }

    /// For the owners of keys.
    public init(recipients: [Recipient]) throws {
        passphrase = try SealedImage.randomPassphrase()
        self.recipients = recipients
    }

    /// Adds the encrypted file system to a SIF, and its wrapped keys.
    /// - Parameter writePlain: writes the plain one to the start of a file, and returns its size. The file has no name.
    public func write(
        to sif: SIFWriter, _ output: OutputFile, type: PartitionType, _ architecture: Architecture, writePlain: (CInt) throws -> UInt64
    ) throws {
        let spool = SharedDescriptor(try OutputFile.unnamed(beside: output.path))
        let size = try writePlain(spool.rawValue)
        let plain = try SliceSource(try FileSource(spool, name: output.path), offset: 0, size: size)
        let sealed = try SealedImage(plain, passphrase, isRandom: !recipients.isEmpty)
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
        for recipient in recipients {
            try sif.add(
                NewObject(.cryptographicMessage, link: .object(id), detail: WrappedKey.detail),
                try WrappedKey.wrap(passphrase, for: recipient))
        }
    }
}
