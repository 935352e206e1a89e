import BlockIO
import Cryptography
import Glibc
import Linux

/// What decrypts the blocks of one encrypted file system.
public final class VolumeKey: Sendable, Equatable {
    let contentKey: SecretBytes
    /// Of the volume, 16 bytes: its blocks are nothing in another one.
    let identifier: [UInt8]

    init(contentKey: SecretBytes, identifier: [UInt8]) {
        self.contentKey = contentKey
        self.identifier = identifier
    }

    public static func == (left: VolumeKey, right: VolumeKey) -> Bool { left === right }
}

/// The header of encrypted file systems that can be written to (``EncryptedVolumeLayout``): overlays and data.
public enum EncryptedVolume {
    private static let magic = Array("SINGULARITY.EXT\0".utf8)
    private static let version: UInt32 = 1
    /// Where things are in the first page.
    private enum Place {
        static let version = 16
        static let configurationSize = 20
        static let identifier = 32..<48
        static let configuration = 64
    }
    private static let pageSize = EncryptedVolumeLayout.blockSize

    /// Bytes that a file needs for a file system of a size.
    public static func regionSize(for size: UInt64) -> UInt64 { EncryptedVolumeLayout.regionSize(for: size) }

    /// Bytes that a file system may have in a region; 0 where there is no room for one.
    public static func volumeSize(inRegion size: UInt64) -> UInt64 {
        EncryptedVolumeLayout(start: 0, regionSize: size).map { $0.blockCount * UInt64(pageSize) } ?? 0
    }

    /// - Parameter source: the region alone.
    public static func begins(in source: any BlockSource) -> Bool {
        (try? source.bytes(at: 0, count: magic.count)) == magic
    }

    // MARK: Opening

    /// - Parameter source: the region alone.
    public static func unlock(_ source: any BlockSource, _ keys: EncryptionKeys) throws(EncryptionError) -> VolumeKey {
        try open(source, keys).key
    }

    /// Wraps the pass phrase for one more recipient, and adds that to the header.
    /// - Parameters:
    ///   - source: the region alone.
    ///   - file: open for writing.
    ///   - start: where the region begins in it, bytes.
    public static func add(
        _ recipient: Recipient, to source: any BlockSource, _ keys: EncryptionKeys, file: CInt, start: UInt64
    ) throws(EncryptionError) {
        let wrapped = try WrappedKey.wrap(try open(source, keys).passphrase, for: recipient)
        guard let free = try pages(source).first(where: { $0.message.isEmpty })?.page else {
            throw .key("\(source.name) has \(EncryptedVolumeLayout.recipientPages.count) recipients, and no room for another one")
        }
        try write(wrapped, page: free, file, start, name: source.name)
        guard fdatasync(file) == 0 else { throw .key("\(source.name) could not be written: \(SystemError.last("write").reason)") }
    }

    /// The wrapped keys, by number.
    public static func recipients(_ source: any BlockSource) throws(EncryptionError) -> [(number: Int, message: [UInt8])] {
        try pages(source).filter { !$0.message.isEmpty }.map {
            (Int($0.page - EncryptedVolumeLayout.recipientPages.lowerBound) + 1, $0.message)
        }
    }

    private static func open(
        _ source: any BlockSource, _ keys: EncryptionKeys
    ) throws(EncryptionError) -> (key: VolumeKey, passphrase: SecretBytes) {
        guard !keys.isEmpty else { throw .noKey(name: source.name) }
        let page = try bytes(source, page: 0)
        func number(_ place: Int) -> UInt32 {
            page.withUnsafeBytes { UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: place, as: UInt32.self)) }
        }
        guard page.starts(with: magic) else { throw .corrupt(name: source.name, what: "it has no encrypted file system") }
        guard number(Place.version) == version else {
            throw .unsupported(
                name: source.name, what: "its encryption is of version \(number(Place.version)), and this program knows \(version)")
        }
        let size = Int(number(Place.configurationSize))
        guard size <= pageSize - Place.configuration else { throw .corrupt(name: source.name, what: "the header of its encryption") }
        let configuration = try GocryptfsConfiguration(
            parsing: Array(page[Place.configuration..<Place.configuration + size]), name: source.name)
        let messages = try recipients(source).map(\.message)
        var found = messages.flatMap { message in keys.privateKeys.compactMap { WrappedKey.unwrap(message, with: $0) } }
        if let passphrase = keys.passphrase { found.append(passphrase) }
        guard !found.isEmpty else {
            throw .wrongKey(
                name: source.name,
                why: messages.isEmpty
                    ? "it opens with a pass phrase (--passphrase), not with an RSA key"
                    : "none of its keys is encrypted for the key that was given")
        }
        for passphrase in found {
            do throws(CryptographyError) {
                let key = try configuration.contentKey(passphrase)
                return (VolumeKey(contentKey: key, identifier: Array(page[Place.identifier])), passphrase)
            } catch {
                if error != .notAuthentic { throw .corrupt(name: source.name, what: "\(error)") }
            }
        }
        throw .wrongKey(
            name: source.name,
            why: !messages.isEmpty && keys.privateKeys.isEmpty
                ? "it opens with an RSA key (--pem-path), not with this pass phrase" : "the pass phrase or key is another one")
    }

    private static func bytes(_ source: any BlockSource, page: UInt64) throws(EncryptionError) -> [UInt8] {
        do throws(BlockError) { return try source.bytes(at: page * UInt64(pageSize), count: pageSize) } catch {
            throw .corrupt(name: source.name, what: "\(error)")
        }
    }

    /// The pages for recipients; empty messages where they are free.
    private static func pages(_ source: any BlockSource) throws(EncryptionError) -> [(page: UInt64, message: [UInt8])] {
        try EncryptedVolumeLayout.recipientPages.map { number throws(EncryptionError) in
            let page = try bytes(source, page: number)
            let size = page.withUnsafeBytes { Int(UInt16(littleEndian: $0.load(as: UInt16.self))) }
            guard size <= pageSize - 2 else { throw .corrupt(name: source.name, what: "a recipient in the header of its encryption") }
            return (number, Array(page[2..<2 + size]))
        }
    }

    // MARK: Making

    /// Writes the header of a new one into a part of a file that is a hole.
    /// - Parameters:
    ///   - start: where the region begins in the file, bytes.
    ///   - messages: the pass phrase for owners of keys (``WrappedKey``).
    ///   - isRandom: the pass phrase is one of ``SealedImage/randomPassphrase()``.
    public static func make(
        _ file: CInt, at start: UInt64, _ passphrase: SecretBytes, messages: [[UInt8]], isRandom: Bool, name: String
    ) throws(EncryptionError) -> VolumeKey {
        guard passphrase.count > 0 else { throw .key("an empty pass phrase protects nothing; give another one") }
        guard messages.count <= EncryptedVolumeLayout.recipientPages.count else {
            throw .key("\(name): at most \(EncryptedVolumeLayout.recipientPages.count) keys can be given")
        }
        let (text, contentKey, identifier): (String, SecretBytes, [UInt8])
        do throws(CryptographyError) {
            (text, contentKey) = try GocryptfsConfiguration.make(
                passphrase, cost: isRandom ? SealedImage.randomCost : SealedImage.passphraseCost)
            identifier = try RandomBytes.make(Place.identifier.count)
        } catch { throw .key("\(error)") }
        for (page, message) in zip(EncryptedVolumeLayout.recipientPages, messages) {
            try write(message, page: page, file, start, name: name)
        }
        var page = [UInt8](repeating: 0, count: pageSize)
        page.replaceSubrange(0..<magic.count, with: magic)
        let configuration = Array(text.utf8)
        page.withUnsafeMutableBytes {
            $0.storeBytes(of: version.littleEndian, toByteOffset: Place.version, as: UInt32.self)
            $0.storeBytes(of: UInt32(configuration.count).littleEndian, toByteOffset: Place.configurationSize, as: UInt32.self)
        }
        page.replaceSubrange(Place.identifier, with: identifier)
        page.replaceSubrange(Place.configuration..<Place.configuration + configuration.count, with: configuration)
        try write(page, at: start, file, name)
        return VolumeKey(contentKey: contentKey, identifier: identifier)
    }

    /// The parts of a region that are neither who can open it nor its key: where they begin, and how many bytes they have. An
    /// encrypted file system that is made anew needs them to be holes.
    public static func contentParts(ofRegion size: UInt64) -> [(offset: UInt64, count: UInt64)] {
        let (page, recipients) = (UInt64(pageSize), EncryptedVolumeLayout.recipientPages)
        let end = recipients.upperBound * page
        return [(page, (recipients.lowerBound - 1) * page), (end, size - end)]
    }

    /// Writes who can open one into another one, which is opened by the same keys then. All else of it is a hole.
    /// - Parameter source: the region of the old one alone.
    public static func copyHeader(_ source: any BlockSource, to file: CInt, at start: UInt64, name: String) throws(EncryptionError) {
        for page in Array(EncryptedVolumeLayout.recipientPages) + [0] {
            try write(try bytes(source, page: page), at: start + page * UInt64(pageSize), file, name)
        }
    }

    private static func write(_ message: [UInt8], page: UInt64, _ file: CInt, _ start: UInt64, name: String) throws(EncryptionError) {
        guard message.count <= pageSize - 2 else { throw .key("\(name): a key of that size is too large") }
        var bytes = withUnsafeBytes(of: UInt16(message.count).littleEndian) { Array($0) } + message
        bytes += [UInt8](repeating: 0, count: pageSize - bytes.count)
        try write(bytes, at: start + page * UInt64(pageSize), file, name)
    }

    private static func write(_ bytes: [UInt8], at offset: UInt64, _ file: CInt, _ name: String) throws(EncryptionError) {
        do throws(SystemError) {
            try bytes.span.bytes.withUnsafeBytes { bytes throws(SystemError) in
                try Files.writeAll(bytes, to: file, at: offset, name: name)
            }
        } catch { throw .key("\(name) could not be written: \(error.reason)") }
    }
}
