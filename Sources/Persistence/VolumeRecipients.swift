import BlockIO
import Encryption
import Glibc
import Linux
import Runtime

/// Who can open an encrypted file system that is written to.
public struct VolumeRecipients {
    private let image: WritableImage

    /// - Returns: nil where a file has no such file system.
    public init?(_ path: String) {
        guard let image = try? WritableImage(path), image.isEncrypted else { return nil }
        self.image = image
    }

    private func source() throws -> SliceSource {
        try SliceSource(try FileSource(path: image.path), offset: image.place.offset, size: image.place.size)
    }

    /// Number of the SIF's object; nil where the file is the file system.
    public var object: UInt32? { image.object }

    /// The pass phrase for owners of keys (``WrappedKey``), by number.
    public func list() throws -> [(number: Int, message: [UInt8])] { try EncryptedVolume.recipients(source()) }

    /// Adds the owners of keys. Nobody may use the image meanwhile.
    public func add(_ recipients: [Recipient], _ keys: EncryptionKeys) throws {
        let held = try image.hold(forWriting: true, asItIs: true, "recipient add")
        for recipient in recipients {
            try EncryptedVolume.add(recipient, to: source(), keys, file: held.file.rawValue, start: image.place.offset)
        }
    }
}
