import Cryptography

/// Where the parts of an encrypted file system are in its region of a file.
///
/// A header of 128 KiB, then groups: a page of 128 entries, and the 128 blocks of 4096 bytes that they are for. An entry has
/// the nonce and the tag of its block (AES-256-GCM; beside the block its number and the volume's identifier are
/// authenticated); one of all zeros is a block that was never written, and is zero.
///
/// The header's pages: 0 the identity (magic, version, identifier, and a `gocryptfs.conf` that has the key); 1 to 12 what has
/// no other protection from crashes (``PinnedBlocks``); 16 to 31 the pass phrase for owners of RSA keys, a message each.
/// Numbers are little-endian.
struct EncryptedVolumeLayout: Equatable {
    /// Where the region begins in the file, bytes.
    let start: UInt64
    let groups: UInt64

    static let blockSize = 4096
    static let blocksInGroup: UInt64 = 128
    static let entrySize = AuthenticatedCipher.nonceSize + AuthenticatedCipher.tagSize
    static let groupSize = (1 + blocksInGroup) * UInt64(blockSize)
    static let headerSize: UInt64 = 128 << 10

    static let pinnedPage: UInt64 = 1
    static let recipientPages: Range<UInt64> = 16..<32

    /// - Parameter size: of the region, bytes.
    /// - Returns: nil for a region that has no room for a group.
    init?(start: UInt64, regionSize size: UInt64) {
        guard size >= Self.headerSize + Self.groupSize else { return nil }
        self.start = start
        groups = (size - Self.headerSize) / Self.groupSize
    }

    /// Bytes of a region for a file system.
    static func regionSize(for volumeSize: UInt64) -> UInt64 {
        let groupBytes = blocksInGroup * UInt64(blockSize)
        return headerSize + (volumeSize + groupBytes - 1) / groupBytes * groupSize
    }

    /// Blocks of the file system at most.
    var blockCount: UInt64 { groups * Self.blocksInGroup }

    private func group(of block: UInt64) -> UInt64 { start + Self.headerSize + block / Self.blocksInGroup * Self.groupSize }

    /// Where a block's entry is in the file.
    func entry(_ block: UInt64) -> UInt64 { group(of: block) + block % Self.blocksInGroup * UInt64(Self.entrySize) }

    /// Where a block is in the file.
    func data(_ block: UInt64) -> UInt64 { group(of: block) + (1 + block % Self.blocksInGroup) * UInt64(Self.blockSize) }

    /// Where a page of the header is in the file.
    func page(_ number: UInt64) -> UInt64 { start + number * UInt64(Self.blockSize) }
}
