import BlockIO
import Cryptography
import Glibc
import Linux
import SIF

/// Puts signatures into an image ("SIF integrity, signing").
public struct ImageSigner {
    /// What is signed with.
    public enum Key {
        case pem(SigningKey)
        /// - passphrase: nil for a key without protection.
        case openPGP(OpenPGPKeys, OpenPGPKey, passphrase: SecretBytes?)
    }

    /// What is signed: one signature each.
    public enum Selection {
        /// Each group with something in it that does not change.
        case all
        case group(UInt32)
        case object(UInt32)
    }

    private let path: String
    private let key: Key

    /// - Parameter path: of a SIF that can be written.
    public init(_ path: String, _ key: Key) { (self.path, self.key) = (path, key) }

    /// What ``sign(_:)`` has done beyond signing.
    public struct Outcome {
        /// Writable partitions that were put into a group of their own, so that writing voids no signature.
        public var separated: [UInt32] = []
        /// Groups of writable partitions that were left out.
        public var leftOut: [UInt32] = []
    }

    /// Signs, and appends the signatures to the image. Until the table is written the image is what it was.
    public func sign(_ selection: Selection) throws -> Outcome {
        let shared: SharedDescriptor
        do { shared = SharedDescriptor(try OwnedDescriptor.open(path, O_RDWR)) } catch { throw TrustError.unreadable("\(error)") }
        let source = try FileSource(shared, name: path)
        var outcome = Outcome()
        let writer = try SIFWriter(changing: shared, name: path, time: Int64(time(nil)))
        outcome.separated = try Self.separate(writer)
        let covered = try CoveredBytes(writer.file, source)
        for (group, objects) in try tasks(covered, selection, &outcome) {
            let text = Array(try ImageMetadata(covered, objects, group: group).json.utf8)
            var fingerprint: [UInt8]?
            let payload: [UInt8]
            switch key {
            case .pem(let key): payload = try DSSEEnvelope.sign(text, key)
            case .openPGP(let keys, let key, let passphrase):
                payload = try keys.clearSign(text, with: key, passphrase: passphrase)
                fingerprint = Hexadecimal.bytes(key.fingerprint)
            }
            try writer.add(
                NewObject(.signature, group: 0, link: .group(group), detail: .signature(.sha256, fingerprint: fingerprint), alignment: 1),
                payload)
        }
        try writer.commitToDisk()
        return outcome
    }

    /// Moves writable partitions out of groups that hold something else. A group's number is not covered by signatures, and
    /// what is signed already keeps its place: an older signature of all of the group would miss the partition.
    private static func separate(_ writer: SIFWriter) throws -> [UInt32] {
        let file = writer.file
        let mixed = file.descriptors.filter { object in
            guard object.isWritablePartition, let group = object.group else { return false }
            let isSigned = file.descriptors.contains { $0.type == .signature && $0.link == .group(group) }
            return !isSigned && file.descriptors.contains { $0.group == group && !$0.isWritablePartition }
        }
        for object in mixed {
            let highest = writer.file.descriptors.compactMap(\.group).max() ?? 0
            try writer.setGroup(id: object.id, to: highest + 1)
        }
        return mixed.map(\.id)
    }

    private func tasks(
        _ covered: CoveredBytes, _ selection: Selection, _ outcome: inout Outcome
    ) throws(TrustError) -> [(group: UInt32, objects: [Descriptor])] {
        switch selection {
        case .all:
            guard !covered.groups.isEmpty else { throw .noGroups }
            outcome.leftOut = covered.groups.filter { covered.objects(in: $0).allSatisfy(\.isWritablePartition) }
            // An image of nothing else, such as a data container, is signed as it is.
            if outcome.leftOut.count == covered.groups.count { outcome.leftOut = [] }
            return covered.groups.filter { !outcome.leftOut.contains($0) }.map { ($0, covered.objects(in: $0)) }
        case .group(let group):
            guard covered.groups.contains(group) else { throw .groupNotFound(group) }
            return [(group, covered.objects(in: group))]
        case .object(let id):
            guard let object = covered.file.descriptors.first(where: { $0.id == id }) else { throw .objectNotFound(id) }
            guard let group = object.group else { throw .noGroupOfObject }
            return [(group, [object])]
        }
    }
}
