import BlockIO
import Cryptography
import Linux

/// Encrypts a source into the bytes of a gocryptfs file, in order.
public final class GocryptfsStream: ByteStream {
    private let plain: any BlockSource
    private let cipher: AuthenticatedCipher
    private let fileID: [UInt8]
    /// Encrypted bytes that were not handed out yet.
    private var ready: [UInt8]
    private var taken = 0
    private var nextBlock: UInt64 = 0

    /// Bytes that come out.
    public var size: UInt64 { GocryptfsLayout.cipherBytes(of: plain.size) }

    init(_ plain: any BlockSource, _ cipher: AuthenticatedCipher) throws(CryptographyError) {
        (self.plain, self.cipher) = (plain, cipher)
        fileID = try RandomBytes.make(16)
        ready = GocryptfsLayout.version + fileID
    }

    /// Blocks that are encrypted at once.
    private static let blocks = 64

    public func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        if taken == ready.count { try encryptMore() }
        let count = min(buffer.count, ready.count - taken)
        ready.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[taken..<taken + count])) }
        taken += count
        return count
    }

    private func encryptMore() throws {
        let start = nextBlock * UInt64(GocryptfsLayout.plainSize)
        guard start < plain.size else {
            (ready, taken) = ([], 0)
            return
        }
        let text = try plain.bytes(at: start, count: Int(min(UInt64(Self.blocks * GocryptfsLayout.plainSize), plain.size - start)))
        let count = (text.count + GocryptfsLayout.plainSize - 1) / GocryptfsLayout.plainSize
        let nonces = try RandomBytes.make(count * AuthenticatedCipher.nonceSize)
        var out = [UInt8](repeating: 0, count: text.count + count * GocryptfsLayout.overhead)
        for index in 0..<count {
            let from = index * GocryptfsLayout.plainSize
            let length = min(GocryptfsLayout.plainSize, text.count - from)
            let data = GocryptfsLayout.associatedData(nextBlock + UInt64(index), fileID)
            try out.withUnsafeMutableBytes { out in
                let target = UnsafeMutableRawBufferPointer(
                    rebasing: out[
                        index * GocryptfsLayout.cipherSize..<index * GocryptfsLayout.cipherSize + length + GocryptfsLayout.overhead])
                try text.withUnsafeBytes { text in
                    try nonces.withUnsafeBytes { nonces in
                        let nonce = UnsafeRawBufferPointer(rebasing: nonces[index * 16..<index * 16 + 16])
                        UnsafeMutableRawBufferPointer(rebasing: target[..<16]).copyMemory(from: nonce)
                        try data.withUnsafeBytes { data in
                            try cipher.seal(
                                UnsafeRawBufferPointer(rebasing: text[from..<from + length]), nonce: nonce, authenticating: data,
                                into: UnsafeMutableRawBufferPointer(rebasing: target[16..<16 + length]),
                                tag: UnsafeMutableRawBufferPointer(rebasing: target[(16 + length)...]))
                        }
                    }
                }
            }
        }
        nextBlock += UInt64(count)
        (ready, taken) = (out, 0)
    }
}
