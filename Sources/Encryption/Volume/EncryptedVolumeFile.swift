import Cryptography
import ExtFS
import Glibc
import Linux

/// A file system that is encrypted in a part of a file (``EncryptedVolumeLayout``).
///
/// A block that was changed by anybody without the key is an error of the disk for who reads it (EIO), never garbage. That a
/// block is put back to what it was at an earlier time, or to zeros, is not seen: that is what signatures are for.
///
/// `@unchecked Sendable`: the pinned blocks are only touched with the monitor held.
public final class EncryptedVolumeFile: VolumeStorage, @unchecked Sendable {
    public var file: CInt { raw.file }
    /// The bytes as they stand in the file.
    private let raw: PlainVolumeFile
    private let layout: EncryptedVolumeLayout
    private let sealing: BlockSealing
    private let monitor = Monitor()
    private var pins: PinnedBlocks

    private static let blockSize = EncryptedVolumeLayout.blockSize

    /// - Parameters:
    ///   - file: open for reading, and for writing where that is wanted; it must stay so.
    ///   - start: where the region begins in the file, bytes.
    ///   - size: of the region, bytes.
    ///   - name: for messages.
    public convenience init(_ file: CInt, start: UInt64, size: UInt64, _ key: VolumeKey, name: String) throws(EncryptionError) {
        try self.init(PlainVolumeFile(file, start: 0), start, size, key, name)
    }

    public convenience init(_ owner: SharedDescriptor, start: UInt64, size: UInt64, _ key: VolumeKey, name: String) throws(EncryptionError)
    {
        try self.init(PlainVolumeFile(owner, start: 0), start, size, key, name)
    }

    private init(
        _ raw: PlainVolumeFile, _ start: UInt64, _ size: UInt64, _ key: VolumeKey, _ name: String
    ) throws(EncryptionError) {
        guard let layout = EncryptedVolumeLayout(start: start, regionSize: size) else {
            throw .corrupt(name: name, what: "an encrypted file system of \(size) bytes")
        }
        do throws(CryptographyError) { sealing = try BlockSealing(key) } catch { throw .key("\(error)") }
        (self.raw, self.layout) = (raw, layout)
        pins = PinnedBlocks(raw, layout, sealing)
    }

    /// Bytes that the file system may have.
    public var size: UInt64 { layout.blockCount * UInt64(Self.blockSize) }

    // MARK: Runs

    /// Blocks from a number on that are neighbours of one group and not pinned; nil where the first is.
    private func run(from number: UInt64, atMost count: Int) -> Int? {
        let (first, journal) = monitor.locked { (pins.number(of: .first), pins.number(of: .journal)) }
        if number == 0 || number == first || number == journal { return nil }
        var length = min(UInt64(count), EncryptedVolumeLayout.blocksInGroup - number % EncryptedVolumeLayout.blocksInGroup)
        if let journal, journal > number { length = min(length, journal - number) }
        return Int(length)
    }

    // MARK: Reading

    public func read(at offset: UInt64, _ target: UnsafeMutableRawBufferPointer) -> CInt {
        let size = Self.blockSize
        var done = 0
        while done < target.count {
            let (number, inBlock) = (offset + UInt64(done)).quotientAndRemainder(dividingBy: UInt64(size))
            let rest = target.count - done
            if inBlock == 0, rest >= size {
                let count = rest / size
                let error = readBlocks(number, UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count * size]))
                if error != 0 { return error }
                done += count * size
                continue
            }
            let count = min(rest, size - Int(inBlock))
            let error = withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { block in
                let error = readBlocks(number, block)
                if error == 0 {
                    UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: block[Int(inBlock)..<Int(inBlock) + count]))
                }
                return error
            }
            if error != 0 { return error }
            done += count
        }
        return 0
    }

    /// - Parameter target: whole blocks.
    private func readBlocks(_ first: UInt64, _ target: UnsafeMutableRawBufferPointer) -> CInt {
        let size = Self.blockSize
        let count = target.count / size
        var index = 0
        while index < count {
            let number = first + UInt64(index)
            let part = UnsafeMutableRawBufferPointer(rebasing: target[(index * size)...])
            guard number < layout.blockCount else {
                part.initializeMemory(as: UInt8.self, repeating: 0)
                return 0
            }
            if let length = run(from: number, atMost: min(count - index, Int(clamping: layout.blockCount - number))) {
                let error = readRun(number, UnsafeMutableRawBufferPointer(rebasing: part[..<(length * size)]))
                if error != 0 { return error }
                index += length
            } else {
                let bytes = monitor.locked { pins.pair(of: number).flatMap { pins.bytes(of: $0) } }
                let block = UnsafeMutableRawBufferPointer(rebasing: part[..<size])
                if let bytes { block.copyBytes(from: bytes) } else { block.initializeMemory(as: UInt8.self, repeating: 0) }
                index += 1
            }
        }
        return 0
    }

    private func readRun(_ first: UInt64, _ target: UnsafeMutableRawBufferPointer) -> CInt {
        let (size, entrySize) = (Self.blockSize, EncryptedVolumeLayout.entrySize)
        let count = target.count / size
        return withUnsafeTemporaryAllocation(byteCount: count * entrySize, alignment: 16) { entries in
            var error = raw.read(at: layout.entry(first), entries)
            guard error == 0 else { return error }
            guard !Self.isZero(UnsafeRawBufferPointer(entries)) else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
                return 0
            }
            error = raw.read(at: layout.data(first), target)
            guard error == 0 else { return error }
            for index in 0..<count {
                let block = UnsafeMutableRawBufferPointer(rebasing: target[index * size..<(index + 1) * size])
                let entry = UnsafeRawBufferPointer(rebasing: entries[index * entrySize..<(index + 1) * entrySize])
                if Self.isZero(entry) {
                    block.initializeMemory(as: UInt8.self, repeating: 0)
                    continue
                }
                do throws(CryptographyError) { try sealing.open(block, entry, .init(number: first + UInt64(index))) } catch { return EIO }
            }
            return 0
        }
    }

    private static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        stride(from: 0, to: bytes.count, by: 8).allSatisfy { bytes.load(fromByteOffset: $0, as: UInt64.self) == 0 }
    }

    // MARK: Writing

    public func write(_ parts: [iovec], at offset: UInt64) -> CInt {
        let size = Self.blockSize
        if offset.isMultiple(of: UInt64(size)), parts.allSatisfy({ $0.iov_len.isMultiple(of: size) }) {
            let blocks = parts.flatMap { part in
                stride(from: 0, to: part.iov_len, by: size).compactMap { part.iov_base.map(UnsafeRawPointer.init)?.advanced(by: $0) }
            }
            return writeBlocks(offset / UInt64(size), blocks[...])
        }
        var position = offset
        for part in parts {
            let error = writePieces(UnsafeRawBufferPointer(start: part.iov_base, count: part.iov_len), at: position)
            if error != 0 { return error }
            position += UInt64(part.iov_len)
        }
        return 0
    }

    /// Writes bytes that begin or end inside of blocks.
    private func writePieces(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> CInt {
        let size = Self.blockSize
        var done = 0
        while done < bytes.count {
            let (number, inBlock) = (offset + UInt64(done)).quotientAndRemainder(dividingBy: UInt64(size))
            let count = min(bytes.count - done, size - Int(inBlock))
            let piece = UnsafeRawBufferPointer(rebasing: bytes[done..<done + count])
            let error = withChanged(number, piece, at: Int(inBlock)) { block in
                block.baseAddress.map { writeBlocks(number, [UnsafeRawPointer($0)]) } ?? 0
            }
            if error != 0 { return error }
            done += count
        }
        return 0
    }

    /// Lends a block as it is with some bytes changed.
    private func withChanged(
        _ number: UInt64, _ bytes: UnsafeRawBufferPointer, at place: Int, _ body: (UnsafeMutableRawBufferPointer) -> CInt
    ) -> CInt {
        withUnsafeTemporaryAllocation(byteCount: Self.blockSize, alignment: 16) { block in
            if bytes.count < block.count {
                let error = readBlocks(number, block)
                if error != 0 { return error }
            }
            UnsafeMutableRawBufferPointer(rebasing: block[place..<place + bytes.count]).copyMemory(from: bytes)
            return body(block)
        }
    }

    private func writeBlocks(_ first: UInt64, _ blocks: ArraySlice<UnsafeRawPointer>) -> CInt {
        guard first + UInt64(blocks.count) <= layout.blockCount else { return EFBIG }
        var rest = blocks
        var number = first
        while let block = rest.first {
            if let length = run(from: number, atMost: rest.count) {
                let error = writeRun(number, rest.prefix(length))
                if error != 0 { return error }
                rest = rest.dropFirst(length)
                number += UInt64(length)
            } else {
                let bytes = Array(UnsafeRawBufferPointer(start: block, count: Self.blockSize))
                let error = monitor.locked { pins.write(bytes, number: number, to: number == 0 ? .first : .journal) }
                if error != 0 { return error }
                rest = rest.dropFirst()
                number += 1
            }
        }
        return 0
    }

    private func writeRun(_ first: UInt64, _ blocks: ArraySlice<UnsafeRawPointer>) -> CInt {
        let (size, entrySize, nonceSize) = (Self.blockSize, EncryptedVolumeLayout.entrySize, AuthenticatedCipher.nonceSize)
        let sealed = UnsafeMutableRawBufferPointer.allocate(byteCount: blocks.count * (size + entrySize), alignment: 4096)
        defer { sealed.deallocate() }
        let data = UnsafeMutableRawBufferPointer(rebasing: sealed[..<(blocks.count * size)])
        let entries = UnsafeMutableRawBufferPointer(rebasing: sealed[(blocks.count * size)...])
        do throws(CryptographyError) {
            let nonces = try RandomBytes.make(blocks.count * nonceSize)
            for (index, block) in blocks.enumerated() {
                let entry = UnsafeMutableRawBufferPointer(rebasing: entries[index * entrySize..<(index + 1) * entrySize])
                entry.copyBytes(from: nonces[index * nonceSize..<(index + 1) * nonceSize])
                try sealing.seal(
                    UnsafeRawBufferPointer(start: block, count: size),
                    into: UnsafeMutableRawBufferPointer(rebasing: data[index * size..<(index + 1) * size]), entry,
                    .init(number: first + UInt64(index)))
            }
        } catch { return EIO }
        let error = raw.write(UnsafeRawBufferPointer(data), at: layout.data(first))
        return error != 0 ? error : raw.write(UnsafeRawBufferPointer(entries), at: layout.entry(first))
    }

    public func writeSafely(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> CInt {
        let (number, inBlock) = offset.quotientAndRemainder(dividingBy: UInt64(Self.blockSize))
        guard Int(inBlock) + bytes.count <= Self.blockSize, number < layout.blockCount else { return EINVAL }
        return withChanged(number, bytes, at: Int(inBlock)) { block in
            if number != 0 {
                let error = unpinOther(than: number)
                if error != 0 { return error }
            }
            return monitor.locked { pins.write(Array(block), number: number, to: number == 0 ? .first : .journal) }
        }
    }

    /// Brings the journal's superblock to its place, where the journal has got another one.
    private func unpinOther(than number: UInt64) -> CInt {
        let old = monitor.locked { () -> (number: UInt64, bytes: [UInt8])? in
            guard let old = pins.number(of: .journal), old != number, let bytes = pins.bytes(of: .journal) else { return nil }
            return (old, bytes)
        }
        guard let old else { return 0 }
        let error = old.bytes.withUnsafeBytes { bytes in bytes.baseAddress.map { writeRun(old.number, [$0]) } ?? 0 }
        return error != 0 ? error : synchronise()
    }

    public func synchronise() -> CInt { raw.synchronise() }

    // MARK: Room

    public func reserve(at offset: UInt64, count: UInt64) -> CInt {
        let size = UInt64(Self.blockSize)
        let last = min((offset + count + size - 1) / size, layout.blockCount)
        guard offset / size < last else { return 0 }
        let start = layout.entry(offset / size)
        return raw.reserve(at: start, count: layout.data(last - 1) + size - start)
    }

    /// What is free may be torn by a crash: it is written as a whole before it is read again.
    public func punch(at offset: UInt64, count: UInt64) -> CInt {
        let size = UInt64(Self.blockSize)
        var number = offset / size
        let end = min((offset + count) / size, layout.blockCount)
        while number < end {
            guard let length = run(from: number, atMost: Int(end - number)) else {
                let error = [UInt8](repeating: 0, count: Self.blockSize).withUnsafeBytes { bytes in
                    bytes.baseAddress.map { writeBlocks(number, [$0]) } ?? 0
                }
                if error != 0 { return error }
                number += 1
                continue
            }
            let error = punchRun(number, UInt64(length))
            if error != 0 { return error }
            number += UInt64(length)
        }
        return 0
    }

    private func punchRun(_ first: UInt64, _ count: UInt64) -> CInt {
        let size = UInt64(Self.blockSize)
        if count == EncryptedVolumeLayout.blocksInGroup {
            return raw.punch(at: layout.entry(first), count: EncryptedVolumeLayout.groupSize)
        }
        let error = [UInt8](repeating: 0, count: Int(count) * EncryptedVolumeLayout.entrySize).withUnsafeBytes {
            raw.write($0, at: layout.entry(first))
        }
        if error != 0 { return error }
        return raw.punch(at: layout.data(first), count: count * size)
    }

    // MARK: The journal's place

    /// Runs of blocks that fit into a block.
    private static let mostRuns = 200

    /// As numbers: the size of a block, blocks of the file system, runs, and two numbers for each of them.
    public var journalPlace: JournalPlace? {
        guard let bytes = monitor.locked({ pins.bytes(of: .record) }) else { return nil }
        func number(_ index: Int) -> UInt64 {
            bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)) }
        }
        let count = Int(clamping: number(2))
        guard number(0) == UInt64(Self.blockSize), (1...Self.mostRuns).contains(count) else { return nil }
        return JournalPlace(
            blockSize: Self.blockSize, blockCount: number(1), runs: (0..<count).map { (number(3 + 2 * $0), number(4 + 2 * $0)) })
    }

    public func keep(_ place: JournalPlace) -> CInt {
        guard place.blockSize == Self.blockSize else { return EINVAL }
        let isKept = (1...Self.mostRuns).contains(place.runs.count)
        var numbers = [UInt64(place.blockSize), place.blockCount, isKept ? UInt64(place.runs.count) : 0]
        if isKept { for run in place.runs { numbers += [run.first, run.count] } }
        var bytes = numbers.flatMap { number in withUnsafeBytes(of: number.littleEndian) { Array($0) } }
        bytes += [UInt8](repeating: 0, count: Self.blockSize - bytes.count)
        return monitor.locked { pins.write(bytes, number: 0, to: .record) }
    }
}
