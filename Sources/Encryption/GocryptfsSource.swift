import BlockIO
import Cryptography
import Glibc
import Linux

/// The plain text of a gocryptfs file, decrypted as it is read. A block that was changed is an error, never other bytes.
public final class GocryptfsSource: BlockSource {
    private let cipherText: any BlockSource
    private let cipher: AuthenticatedCipher
    private let fileID: [UInt8]
    public let size: UInt64
    public var name: String { cipherText.name }

    package init(_ cipherText: any BlockSource, _ cipher: AuthenticatedCipher) throws(EncryptionError) {
        guard let size = GocryptfsLayout.plainBytes(of: cipherText.size), size > 0 else {
            throw .corrupt(name: cipherText.name, what: "its encrypted file has \(cipherText.size) bytes, which none can have")
        }
        let head: [UInt8]
        do { head = try cipherText.bytes(at: 0, count: GocryptfsLayout.headerSize) } catch {
            throw .corrupt(name: cipherText.name, what: "\(error)")
        }
        guard head.starts(with: GocryptfsLayout.version) else {
            throw .unsupported(name: cipherText.name, what: "its encrypted file has the version \(head[0] << 8 | head[1]) of gocryptfs")
        }
        (self.cipherText, self.cipher, self.size) = (cipherText, cipher, size)
        fileID = Array(head[2...])
    }

    /// Blocks that are read at once.
    private static let mostBlocks = 256

    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockError) {
        guard offset <= size, UInt64(buffer.count) <= size - offset else {
            throw .outOfBounds(name: name, offset: offset, needed: buffer.count, size: size)
        }
        let plainSize = UInt64(GocryptfsLayout.plainSize)
        var done = 0
        while done < buffer.count {
            let position = offset + UInt64(done)
            let first = position / plainSize
            let last = min((offset + UInt64(buffer.count) - 1) / plainSize, first + UInt64(Self.mostBlocks) - 1)
            let end = min((last + 1) * plainSize, offset + UInt64(buffer.count))
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + Int(end - position)])
            try decrypt(first...last, skipping: Int(position % plainSize), into: target)
            done += target.count
        }
    }

    /// Decrypts blocks that follow each other.
    /// - Parameter skipping: bytes of the first block that are not wanted.
    private func decrypt(_ blocks: ClosedRange<UInt64>, skipping: Int, into target: UnsafeMutableRawBufferPointer) throws(BlockError) {
        let cipherSize = UInt64(GocryptfsLayout.cipherSize)
        let start = UInt64(GocryptfsLayout.headerSize) + blocks.lowerBound * cipherSize
        let stored = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Int(min(UInt64(blocks.count) * cipherSize, cipherText.size - start)), alignment: 64)
        defer { stored.deallocate() }
        try cipherText.read(into: stored, at: start)
        // Blocks of which not all is wanted.
        var scratch = [UInt8](repeating: 0, count: GocryptfsLayout.plainSize)
        var done = 0
        for (index, block) in blocks.enumerated() {
            let from = index * GocryptfsLayout.cipherSize
            let piece = UnsafeRawBufferPointer(rebasing: stored[from..<min(stored.count, from + GocryptfsLayout.cipherSize)])
            let plain = piece.count - GocryptfsLayout.overhead
            let skip = index == 0 ? skipping : 0
            let wanted = min(plain - skip, target.count - done)
            let goal = UnsafeMutableRawBufferPointer(rebasing: target[done..<done + wanted])
            if skip == 0 && wanted == plain {
                try open(piece, block, into: goal)
            } else {
                var failure: BlockError?
                scratch.withUnsafeMutableBytes { scratch in
                    let all = UnsafeMutableRawBufferPointer(rebasing: scratch[..<plain])
                    do throws(BlockError) {
                        try open(piece, block, into: all)
                        goal.copyMemory(from: UnsafeRawBufferPointer(rebasing: all[skip..<skip + wanted]))
                    } catch { failure = error }
                }
                if let failure { throw failure }
            }
            done += wanted
        }
    }

    private func open(_ piece: UnsafeRawBufferPointer, _ block: UInt64, into target: UnsafeMutableRawBufferPointer) throws(BlockError) {
        // A hole of the encrypted file is one of the plain text.
        if piece.count == GocryptfsLayout.cipherSize && piece.allSatisfy({ $0 == 0 }) {
            target.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        let data = GocryptfsLayout.associatedData(block, fileID)
        do throws(CryptographyError) {
            try data.span.bytes.withUnsafeBytes { data throws(CryptographyError) in
                try cipher.open(
                    UnsafeRawBufferPointer(rebasing: piece[16..<piece.count - 16]), nonce: UnsafeRawBufferPointer(rebasing: piece[..<16]),
                    tag: UnsafeRawBufferPointer(rebasing: piece[(piece.count - 16)...]), authenticating: data, into: target)
            }
        } catch { throw .system(SystemError("decrypt block \(block) of \(name), which was changed", errno: EIO)) }
    }
}
