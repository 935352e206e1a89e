import BlockIO
import Cryptography
import Linux
import SIF
import SquashFS

/// Encrypted partitions of a SIF, opened without root.
public enum EncryptedPartition {
    /// The plain text of a partition: a SquashFS.
    /// - Parameters:
    ///   - partition: of the type gocryptfs or LUKS2.
    ///   - source: the SIF.
    public static func open(
        _ partition: Descriptor, of sif: SIFFile, _ source: any BlockSource, _ keys: EncryptionKeys
    ) throws(EncryptionError) -> any BlockSource {
        try unlock(partition, of: sif, source, keys).plain
    }

    /// Wraps the pass phrase of a partition for one more recipient.
    /// - Returns: the payload of a message that has to be linked to the partition.
    public static func wrap(
        _ partition: Descriptor, of sif: SIFFile, _ source: any BlockSource, _ keys: EncryptionKeys, for recipient: Recipient
    ) throws(EncryptionError) -> [UInt8] {
        try WrappedKey.wrap(try unlock(partition, of: sif, source, keys).passphrase, for: recipient)
    }

    /// What a new partition needs that shall open as this one does.
    /// - Returns: the pass phrase, and what it is wrapped in for owners of keys.
    public static func keys(
        of partition: Descriptor, of sif: SIFFile, _ source: any BlockSource, _ keys: EncryptionKeys
    ) throws(EncryptionError) -> (passphrase: SecretBytes, messages: [[UInt8]]) {
        (try unlock(partition, of: sif, source, keys).passphrase, try messages(partition, sif, source))
    }

    private static func unlock(
        _ partition: Descriptor, of sif: SIFFile, _ source: any BlockSource, _ keys: EncryptionKeys
    ) throws(EncryptionError) -> (plain: any BlockSource, passphrase: SecretBytes) {
        guard !keys.isEmpty else { throw .noKey(name: source.name) }
        let slice: SliceSource
        do throws(BlockError) { slice = try SliceSource(source, offset: UInt64(partition.offset), size: UInt64(partition.size)) } catch {
            throw .corrupt(name: source.name, what: "\(error)")
        }
        var last = EncryptionError.wrongKey(name: source.name, why: "none of its keys is encrypted for the key that was given")
        for passphrase in try passphrases(partition, sif, source, keys) {
            do throws(EncryptionError) {
                if partition.partition?.fileSystem == .encryptedSquashFS { return (try LUKSSource(slice, passphrase), passphrase) }
                return (try gocryptfs(slice, passphrase), passphrase)
            } catch {
                guard case .wrongKey = error else { throw error }
                let isWrapped = sif.descriptors.contains { $0.type == .cryptographicMessage && $0.link == .object(partition.id) }
                last =
                    isWrapped && keys.privateKeys.isEmpty
                    ? .wrongKey(name: source.name, why: "it opens with an RSA key (--pem-path), not with this pass phrase") : error
            }
        }
        throw last
    }

    /// Pass phrases to try: those that are wrapped for a private key, or the one that was given.
    private static func passphrases(
        _ partition: Descriptor, _ sif: SIFFile, _ source: any BlockSource, _ keys: EncryptionKeys
    ) throws(EncryptionError) -> [SecretBytes] {
        var found: [SecretBytes] = []
        let messages = try messages(partition, sif, source)
        for message in messages { found += keys.privateKeys.compactMap { WrappedKey.unwrap(message, with: $0) } }
        if let passphrase = keys.passphrase { found.append(passphrase) }
        if found.isEmpty && messages.isEmpty {
            throw .wrongKey(name: source.name, why: "it opens with a pass phrase (--passphrase), not with an RSA key")
        }
        return found
    }

    private static func messages(
        _ partition: Descriptor, _ sif: SIFFile, _ source: any BlockSource
    ) throws(EncryptionError) -> [[UInt8]] {
        let objects = sif.descriptors.filter {
            $0.type == .cryptographicMessage && $0.link == .object(partition.id) && $0.detail == WrappedKey.detail && $0.size <= 1 << 20
        }
        return try objects.map { object throws(EncryptionError) in
            do throws(BlockError) { return try source.bytes(at: UInt64(object.offset), count: Int(object.size)) } catch {
                throw .corrupt(name: source.name, what: "\(error)")
            }
        }
    }

    private static func gocryptfs(_ slice: SliceSource, _ passphrase: SecretBytes) throws(EncryptionError) -> any BlockSource {
        let (configuration, file) = try files(slice)
        let cipher: AuthenticatedCipher
        do throws(CryptographyError) {
            cipher = try AuthenticatedCipher(key: try configuration.contentKey(passphrase))
        } catch {
            if error == .notAuthentic { throw .wrongKey(name: slice.name, why: "the pass phrase or key is another one") }
            throw .corrupt(name: slice.name, what: "\(error)")
        }
        return try GocryptfsSource(file, cipher)
    }

    /// What the outer image holds: the configuration and the encrypted file, which has whatever name its maker gave it.
    private static func files(_ slice: SliceSource) throws(EncryptionError) -> (GocryptfsConfiguration, ImageFileSource) {
        var text: [UInt8]?
        var layouts: [FileLayout] = []
        do throws(SquashFSError) {
            let outer = try SquashFSImage(slice, cacheSize: 4 << 20)
            for entry in try outer.entries(of: try outer.inode(outer.superblock.rootInode)) {
                let inode = try outer.inode(entry.inode)
                if entry.name == Array("gocryptfs.conf".utf8) {
                    text = try outer.content(of: inode, limit: 64 << 10)
                } else if case .file(let layout) = inode.content {
                    layouts.append(layout)
                }
            }
            guard let text, layouts.count == 1 else {
                throw .corrupt(name: slice.name, what: "an encrypted partition without gocryptfs.conf and one encrypted file", position: 0)
            }
            return (try configuration(text, slice.name), ImageFileSource(outer, layouts[0]))
        } catch { throw .corrupt(name: slice.name, what: "\(error)") }
    }

    private static func configuration(_ text: [UInt8], _ name: String) throws(SquashFSError) -> GocryptfsConfiguration {
        do throws(EncryptionError) { return try GocryptfsConfiguration(parsing: text, name: name) } catch {
            throw .unsupported(name: name, what: "\(error)")
        }
    }
}
