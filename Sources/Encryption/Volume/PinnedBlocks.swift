import Cryptography
import ExtFS
import Glibc
import Linux

/// Blocks that no journal protects, which must survive a crash as they were or as they shall be: the first one, the journal's
/// superblock, and where the journal is.
///
/// Each is a pair of places in the header, which are written in turn: two pages, version, number, nonce and tag in the first
/// and the encrypted block in the second. The newest that is authentic counts. What is here is not looked for elsewhere.
///
/// Not safe for threads.
struct PinnedBlocks {
    enum Pair: UInt64, CaseIterable {
        case first, journal, record
    }

    private struct Pinned {
        var version: UInt64
        var number: UInt64
        var bytes: [UInt8]
    }

    private static let metaSize = 16 + EncryptedVolumeLayout.entrySize
    private static let slotSize = 2 * EncryptedVolumeLayout.blockSize
    private static let slots = 2

    private let raw: PlainVolumeFile
    private let layout: EncryptedVolumeLayout
    private let sealing: BlockSealing
    private var all: [Pair: Pinned] = [:]

    /// Reads them; those that are not there, or not authentic, are not pinned.
    init(_ raw: PlainVolumeFile, _ layout: EncryptedVolumeLayout, _ sealing: BlockSealing) {
        self.raw = raw
        self.layout = layout
        self.sealing = sealing
        let size = Pair.allCases.count * Self.slots * Self.slotSize
        var header = [UInt8](repeating: 0, count: size)
        let error = header.withUnsafeMutableBytes { raw.read(at: layout.page(EncryptedVolumeLayout.pinnedPage), $0) }
        guard error == 0 else { return }
        header.withUnsafeMutableBytes { header in
            for pair in Pair.allCases {
                for slot in 0..<Self.slots {
                    let start = (Int(pair.rawValue) * Self.slots + slot) * Self.slotSize
                    guard
                        let found = Self.read(UnsafeMutableRawBufferPointer(rebasing: header[start..<start + Self.slotSize]), pair, sealing)
                    else { continue }
                    if found.version > all[pair]?.version ?? 0 { all[pair] = found }
                }
            }
        }
    }

    private static func read(_ slot: UnsafeMutableRawBufferPointer, _ pair: Pair, _ sealing: BlockSealing) -> Pinned? {
        let version = UInt64(littleEndian: slot.load(as: UInt64.self))
        let number = UInt64(littleEndian: slot.load(fromByteOffset: 8, as: UInt64.self))
        guard version > 0 else { return nil }
        let block = UnsafeMutableRawBufferPointer(rebasing: slot[EncryptedVolumeLayout.blockSize...])
        do throws(CryptographyError) {
            try sealing.open(
                block, UnsafeRawBufferPointer(rebasing: slot[16..<metaSize]),
                .init(number: number, pair: pair.rawValue + 1, version: version))
        } catch { return nil }
        return Pinned(version: version, number: number, bytes: Array(block))
    }

    /// The pair that has a block.
    func pair(of number: UInt64) -> Pair? {
        [Pair.first, .journal].first { all[$0]?.number == number }
    }

    func number(of pair: Pair) -> UInt64? { all[pair]?.number }

    func bytes(of pair: Pair) -> [UInt8]? { all[pair]?.bytes }

    /// Writes a block; it is on disk when this returns.
    /// - Returns: an errno value.
    mutating func write(_ bytes: [UInt8], number: UInt64, to pair: Pair) -> CInt {
        let version = (all[pair]?.version ?? 0) + 1
        var slot = [UInt8](repeating: 0, count: Self.slotSize)
        let isSealed = slot.withUnsafeMutableBytes { slot in
            slot.storeBytes(of: version.littleEndian, as: UInt64.self)
            slot.storeBytes(of: number.littleEndian, toByteOffset: 8, as: UInt64.self)
            let entry = UnsafeMutableRawBufferPointer(rebasing: slot[16..<Self.metaSize])
            do throws(CryptographyError) {
                try RandomBytes.fill(UnsafeMutableRawBufferPointer(rebasing: entry[..<AuthenticatedCipher.nonceSize]))
                try bytes.span.bytes.withUnsafeBytes { bytes throws(CryptographyError) in
                    try sealing.seal(
                        bytes, into: UnsafeMutableRawBufferPointer(rebasing: slot[EncryptedVolumeLayout.blockSize...]), entry,
                        .init(number: number, pair: pair.rawValue + 1, version: version))
                }
                return true
            } catch { return false }
        }
        guard isSealed else { return EIO }
        let page = EncryptedVolumeLayout.pinnedPage + (pair.rawValue * UInt64(Self.slots) + version % UInt64(Self.slots)) * 2
        var error = slot.withUnsafeBytes { raw.write($0, at: layout.page(page)) }
        if error == 0 { error = raw.synchronise() }
        guard error == 0 else { return error }
        all[pair] = Pinned(version: version, number: number, bytes: bytes)
        return 0
    }
}
