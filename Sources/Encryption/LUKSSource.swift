import BlockIO
import Cryptography
import FoundationEssentials
import Glibc
import Linux

/// The plain text of a LUKS2 volume, decrypted as it is read: what dm-crypt does for root.
///
/// XTS hides and does not authenticate: only a signature tells whether such a partition was changed.
public final class LUKSSource: BlockSource {
    private let volume: any BlockSource
    private let cipher: SectorCipher
    /// Where the data start, bytes.
    private let start: UInt64
    /// Added to the number of a sector.
    private let tweak: UInt64
    public let size: UInt64
    public var name: String { volume.name }

    /// Opens the volume.
    /// - Throws: ``EncryptionError/wrongKey(name:why:)`` where the pass phrase opens no key slot.
    package init(_ volume: any BlockSource, _ passphrase: SecretBytes) throws(EncryptionError) {
        let header = try LUKSHeader(volume)
        let name = volume.name
        guard header.segments.count == 1, let (segmentID, segment) = header.segments.first, segment.type == "crypt",
            let start = UInt64(segment.offset), let tweak = UInt64(segment.iv_tweak)
        else { throw .unsupported(name: name, what: "its LUKS2 volume has other than one encrypted segment") }
        guard segment.encryption == "aes-xts-plain64" else {
            throw .unsupported(name: name, what: "its LUKS2 volume is encrypted with \(segment.encryption); only aes-xts-plain64 is known")
        }
        let sizes = [512, 1024, 2048, 4096]
        guard sizes.contains(segment.sector_size), segment.flags?.isEmpty ?? true, start < volume.size else {
            throw .unsupported(name: name, what: "its LUKS2 segment has a layout that is not known")
        }
        let available = volume.size - start
        let wanted = segment.size == "dynamic" ? available : UInt64(segment.size) ?? 0
        guard wanted > 0, wanted <= available else { throw .corrupt(name: name, what: "its LUKS2 segment reaches behind the end") }
        (self.volume, self.start, self.tweak) = (volume, start, tweak)
        size = wanted / UInt64(segment.sector_size) * UInt64(segment.sector_size)
        do {
            guard let key = try Self.key(header, segmentID, volume, passphrase) else {
                throw EncryptionError.wrongKey(name: name, why: "the pass phrase or key opens none of its key slots")
            }
            cipher = try SectorCipher(key: key, sectorSize: segment.sector_size)
        } catch let error as EncryptionError { throw error } catch { throw .corrupt(name: name, what: "\(error)") }
    }

    // MARK: Keys

    private static func key(
        _ header: LUKSHeader, _ segment: String, _ volume: any BlockSource, _ passphrase: SecretBytes
    ) throws -> SecretBytes? {
        for (id, slot) in header.keyslots.sorted(by: { $0.key < $1.key }) {
            let digests = header.digests.values.filter { $0.keyslots.contains(id) && $0.segments.contains(segment) && $0.type == "pbkdf2" }
            guard let digest = digests.first, slot.type == "luks2" else { continue }
            let candidate = try open(slot, volume, passphrase)
            if try isKey(candidate, digest, volume.name) { return candidate }
        }
        return nil
    }

    private static func isKey(_ candidate: SecretBytes, _ digest: LUKSHeader.Digest, _ name: String) throws -> Bool {
        guard let hash = MessageDigest.Algorithm(rawValue: digest.hash), let salt = Data(base64Encoded: digest.salt),
            let expected = Data(base64Encoded: digest.digest), !expected.isEmpty, (1...100_000_000).contains(digest.iterations)
        else { throw EncryptionError.unsupported(name: name, what: "its LUKS2 digest is of an unknown kind") }
        let found = try KeyDerivation.pbkdf2(
            candidate, salt: Array(salt), hash: hash, iterations: digest.iterations, count: expected.count)
        return found.withBytes { $0.elementsEqual(expected) }
    }

    /// What a pass phrase makes of a key slot; random bytes for a wrong one.
    private static func open(_ slot: LUKSHeader.Keyslot, _ volume: any BlockSource, _ passphrase: SecretBytes) throws -> SecretBytes {
        let name = volume.name
        guard slot.area.type == "raw", slot.area.encryption == "aes-xts-plain64", slot.af.type == "luks1",
            let hash = MessageDigest.Algorithm(rawValue: slot.af.hash), let offset = UInt64(slot.area.offset),
            (1...8192).contains(slot.af.stripes), [32, 64].contains(slot.key_size), [32, 64].contains(slot.area.key_size)
        else { throw EncryptionError.unsupported(name: name, what: "a LUKS2 key slot of an unknown kind") }
        let derived = try derive(slot.kdf, passphrase, count: slot.area.key_size, name)
        let count = slot.key_size * slot.af.stripes
        let padded = (count + 511) / 512 * 512
        guard padded <= Int(slot.area.size) ?? 0 else { throw EncryptionError.corrupt(name: name, what: "a LUKS2 key slot is too small") }
        let cipher = try SectorCipher(key: derived)
        let material = try SecretBytes(count: padded) { target in
            try volume.read(into: target, at: offset)
            try cipher.open(target, number: 0)
        }
        return try merge(material, stripes: slot.af.stripes, size: slot.key_size, hash)
    }

    private static func derive(
        _ kdf: LUKSHeader.Keyslot.Derivation, _ passphrase: SecretBytes, count: Int, _ name: String
    ) throws -> SecretBytes {
        let salt = Array(Data(base64Encoded: kdf.salt) ?? Data())
        switch kdf.type {
        case "argon2i", "argon2id":
            guard let time = kdf.time, let memory = kdf.memory, let cpus = kdf.cpus, (1...200).contains(time),
                (8...2 << 20).contains(memory), (1...64).contains(cpus)
            else { break }
            return try KeyDerivation.argon2(
                passphrase, kind: kdf.type, salt: salt, time: time, memory: memory, parallelism: cpus, count: count)
        case "pbkdf2":
            guard let hash = kdf.hash.flatMap(MessageDigest.Algorithm.init(rawValue:)), let iterations = kdf.iterations,
                (1...100_000_000).contains(iterations)
            else { break }
            return try KeyDerivation.pbkdf2(passphrase, salt: salt, hash: hash, iterations: iterations, count: count)
        default: break
        }
        throw EncryptionError.unsupported(
            name: name, what: "a LUKS2 key slot derives its key with \(kdf.type), or with parameters that nobody uses")
    }

    /// Puts a key together that was spread over stripes (LUKS1 specification, section 2.4).
    private static func merge(_ material: SecretBytes, stripes: Int, size: Int, _ hash: MessageDigest.Algorithm) throws -> SecretBytes {
        var state = [UInt8](repeating: 0, count: size)
        for stripe in 0..<stripes {
            material.withBytes { all in for index in 0..<size { state[index] ^= all[stripe * size + index] } }
            if stripe < stripes - 1 { state = try diffuse(state, hash) }
        }
        return SecretBytes(taking: &state)
    }

    /// Spreads each bit over as many bytes as the hash has.
    private static func diffuse(_ state: [UInt8], _ hash: MessageDigest.Algorithm) throws -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(state.count)
        for (number, start) in stride(from: 0, to: state.count, by: hash.count).enumerated() {
            let piece = state[start..<min(state.count, start + hash.count)]
            let head = withUnsafeBytes(of: UInt32(number).bigEndian, Array.init)
            out += try MessageDigest.of(head + piece, hash).prefix(piece.count)
        }
        return out
    }

    // MARK: Reading

    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockError) {
        guard offset <= size, UInt64(buffer.count) <= size - offset else {
            throw .outOfBounds(name: name, offset: offset, needed: buffer.count, size: size)
        }
        if buffer.count == 0 { return }
        let sector = UInt64(cipher.sectorSize)
        let first = offset / sector * sector
        let end = (offset + UInt64(buffer.count) + sector - 1) / sector * sector
        if first == offset && end == offset + UInt64(buffer.count) { return try decrypt(buffer, at: first) }
        let whole = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(end - first), alignment: 64)
        defer { whole.deallocate() }
        try decrypt(whole, at: first)
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: whole[Int(offset - first)..<Int(offset - first) + buffer.count]))
    }

    private func decrypt(_ sectors: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(BlockError) {
        try volume.read(into: sectors, at: start + offset)
        do throws(CryptographyError) { try cipher.open(sectors, number: tweak + offset / 512) } catch {
            throw .unreadable(name: name, why: "\(error)")
        }
    }
}
