import BlockIO
import Cryptography
import SIF

/// What a signature covers of a SIF, as it stands in the file ("SIF integrity", metadata).
///
/// The bytes are hashed as they were read, not as they were understood: what a parser passes over counts as well.
struct CoveredBytes {
    let file: SIFFile
    private let source: any BlockSource
    private let head: SIFFile.StoredHead
    private let slotOfObject: [UInt32: Int]

    /// - Throws: ``TrustError/unreadable(_:)`` where two objects have the same number.
    init(_ file: SIFFile, _ source: any BlockSource) throws(TrustError) {
        guard let head = file.stored else { throw .unreadable("\(file.name) is not on disk yet") }
        var slots: [UInt32: Int] = [:]
        for (index, descriptor) in file.slots.enumerated() {
            guard let descriptor else { continue }
            guard slots.updateValue(index, forKey: descriptor.id) == nil else {
                throw .unreadable("\(file.name) is damaged: two of its objects have the number \(descriptor.id)")
            }
        }
        (self.file, self.source, self.head, slotOfObject) = (file, source, head, slots)
    }

    /// Launch script, magic number, version and identifier: 61 bytes. Not the architecture, times, counts and positions.
    func headerDigest(_ algorithm: MessageDigest.Algorithm) throws(CryptographyError) -> [UInt8] {
        try MessageDigest.of(Array(head.header[0..<45] + head.header[48..<64]), algorithm)
    }

    /// An object's entry with the number that it has within its group: 557 bytes. Not its place, group and time of change.
    func descriptorDigest(_ id: UInt32, relative: UInt32, _ algorithm: MessageDigest.Algorithm) throws(CryptographyError) -> [UInt8] {
        guard let index = slotOfObject[id] else { return [] }
        let slot = Array(head.slot(index))
        var covered = Array(slot[0..<5])
        covered.append(littleEndian: relative)
        // Link, size, time of creation, owners, name and the details of the type.
        for range in [13..<17, 25..<33, 41..<49, 57..<585] { covered += slot[range] }
        return try MessageDigest.of(covered, algorithm)
    }

    /// The bytes of several objects, one behind the other.
    func dataDigest(_ objects: [Descriptor], _ algorithm: MessageDigest.Algorithm) throws -> [UInt8] {
        var digest = try MessageDigest(algorithm)
        for object in objects {
            try source.read(UInt64(object.offset)..<UInt64(object.end)) { digest.update($0) }
        }
        return digest.finish()
    }

    func bytes(of object: Descriptor, limit: Int64) throws(TrustError) -> [UInt8] {
        guard object.size <= limit else {
            throw .unreadable("object \(object.id) of \(file.name) has \(object.size) bytes, which no signature has")
        }
        do { return try source.bytes(at: UInt64(object.offset), count: Int(object.size)) } catch { throw .unreadable("\(error)") }
    }

    // MARK: Groups

    /// Numbers of the groups, the lowest first.
    var groups: [UInt32] { Set(file.descriptors.compactMap(\.group)).sorted() }

    /// The objects of a group by number.
    func objects(in group: UInt32) -> [Descriptor] {
        file.descriptors.filter { $0.group == group }.sorted { $0.id < $1.id }
    }

    /// What numbers within the group count from.
    func firstNumber(in group: UInt32) -> UInt32 { objects(in: group).first?.id ?? 0 }
}
