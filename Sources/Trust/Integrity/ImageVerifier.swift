import BlockIO
import Cryptography
import Glibc
import SIF

/// Checks the signatures of an image ("SIF integrity, verification").
public final class ImageVerifier {
    public let file: SIFFile
    private let covered: CoveredBytes
    private let material: KeyMaterial
    private let now: Int64
    /// Digests of objects that were made already, by number and algorithm.
    private var dataDigests: [String: [UInt8]] = [:]
    private var signatures: [SignatureObject]?

    /// - Parameters:
    ///   - file: as it was read from `source`.
    ///   - now: Unix seconds, for keys that expire.
    public init(_ file: SIFFile, _ source: any BlockSource, _ material: KeyMaterial, now: Int64 = Int64(time(nil))) throws(TrustError) {
        covered = try CoveredBytes(file, source)
        (self.file, self.material, self.now) = (file, material, now)
    }

    /// Something that has to be covered by a signature.
    public enum Task: Sendable, Equatable {
        /// All objects of a group.
        case group(UInt32)
        /// One object.
        case object(UInt32)
        /// The same by signatures that cover data only.
        case legacyGroup(UInt32)
        case legacyObject(UInt32)
    }

    /// What was found out about one signature.
    public struct Report: Sendable {
        public var signature: Descriptor
        public var signer: Signer?
        /// Objects whose bytes are those that were signed.
        public var objects: [Descriptor] = []
        /// The signature's own failure, or that of the object behind ``objects``.
        public var failure: TrustError?
    }

    // MARK: Choosing

    /// Groups that hold nothing but writable partitions: their bytes are meant to change.
    public var writableGroups: [UInt32] { covered.groups.filter { covered.objects(in: $0).allSatisfy(\.isWritablePartition) } }

    /// What `verify` checks when nothing is said: each group.
    /// - Parameter withWritable: also groups of writable partitions that nobody has signed.
    public func groupTasks(withWritable: Bool) throws(TrustError) -> [Task] {
        let groups = covered.groups
        guard !groups.isEmpty else { throw .noGroups }
        let writable = withWritable ? [] : Set(writableGroups)
        // An image of nothing else, such as a data container, is not well because there is nothing to check.
        let immutable = groups.filter { !writable.contains($0) }
        return (immutable.isEmpty ? groups : immutable).map(Task.group)
    }

    public func task(group: UInt32, legacy: Bool) throws(TrustError) -> Task {
        guard covered.groups.contains(group) else { throw .groupNotFound(group) }
        return legacy ? .legacyGroup(group) : .group(group)
    }

    public func task(object id: UInt32, legacy: Bool) throws(TrustError) -> Task {
        guard let object = file.descriptors.first(where: { $0.id == id }) else { throw .objectNotFound(id) }
        guard object.group != nil else { throw .noGroupOfObject }
        return legacy ? .legacyObject(id) : .object(id)
    }

    /// What legacy signatures are asked for when nothing is said: the root file system.
    /// - Parameter all: each object of a group.
    public func legacyTasks(all: Bool) throws(TrustError) -> [Task] {
        if all { return file.descriptors.filter { $0.group != nil && $0.type != .signature }.map { .legacyObject($0.id) } }
        guard let primary = file.primaryPartition else { throw .objectNotFound(0) }
        return [.legacyObject(primary.id)]
    }

    // MARK: Checking

    /// Checks that signatures cover all of the tasks, and that every signature of them is good.
    /// - Parameter report: is told of each signature, in the order of the table, before an error is thrown.
    public func verify(_ tasks: [Task], _ report: (Report) -> Void) throws(TrustError) {
        try checkGrouping()
        for task in tasks {
            let found = try signatures(for: task)
            guard !found.isEmpty else {
                switch task {
                case .group(let group), .legacyGroup(let group): throw .notSigned(group: group)
                case .object(let id): throw .notSigned(group: file.descriptors.first { $0.id == id }?.group ?? 0)
                case .legacyObject(let id): throw .objectSignatureMissing(id)
                }
            }
            for signature in found {
                let result = try check(signature, task)
                report(result)
                if let failure = result.failure { throw failure }
            }
        }
    }

    /// Every object belongs to a group, but for signatures: none can be hidden from them.
    func checkGrouping() throws(TrustError) {
        if let object = file.descriptors.first(where: { $0.group == nil && $0.type != .signature }) { throw .foreignObject(object.id) }
    }

    /// Signatures that speak of a task, the table's order.
    func signatures(for task: Task) throws(TrustError) -> [SignatureObject] {
        let link: Descriptor.Link
        var isLegacy = false
        switch task {
        case .group(let group): link = .group(group)
        case .object(let id):
            link = .group(file.descriptors.first { $0.id == id }?.group ?? 0)
        case .legacyGroup(let group): (link, isLegacy) = (.group(group), true)
        case .legacyObject(let id): (link, isLegacy) = (.object(id), true)
        }
        if signatures == nil {
            var all: [SignatureObject] = []
            for object in file.descriptors where object.type == .signature { all.append(try SignatureObject(object, covered)) }
            signatures = all
        }
        return (signatures ?? []).filter { $0.descriptor.link == link && $0.isLegacy == isLegacy }
    }

    /// Checks one signature, and what it says of a task.
    /// - Throws: where there is no key of its kind at all; other failures are in the report.
    func check(_ signature: SignatureObject, _ task: Task) throws(TrustError) -> Report {
        var report = Report(signature: signature.descriptor)
        do throws(TrustError) {
            let (text, signer) = try signature.check(material, now: now)
            report.signer = signer
            switch task {
            case .group(let group): try compare(text, covered.objects(in: group), isWhole: true, group, &report.objects)
            case .object(let id):
                let object = file.descriptors.filter { $0.id == id }
                try compare(text, object, isWhole: false, object.first?.group ?? 0, &report.objects)
            case .legacyGroup(let group):
                // In the order of the table.
                try compareLegacy(signature, file.descriptors.filter { $0.group == group }, &report.objects)
            case .legacyObject(let id): try compareLegacy(signature, file.descriptors.filter { $0.id == id }, &report.objects)
            }
        } catch {
            if case .noKeyMaterial = error { throw error }
            report.failure = error
        }
        return report
    }

    /// Compares digests of objects with those that are signed.
    /// - Parameter isWhole: all objects of the group are expected, and no others.
    private func compare(
        _ text: [UInt8], _ objects: [Descriptor], isWhole: Bool, _ group: UInt32, _ verified: inout [Descriptor]
    ) throws(TrustError) {
        do {
            let metadata = try ImageMetadata(parsing: text)
            let first = covered.firstNumber(in: group)
            var signed: [UInt32: ImageMetadata.Object] = [:]
            for object in metadata.objects {
                let (id, overflow) = first.addingReportingOverflow(object.relativeID)
                guard !overflow else { throw TrustError.signedObjectMissing(object.relativeID) }
                signed[id] = object
            }
            if let missing = objects.first(where: { signed[$0.id] == nil }) { throw TrustError.objectNotSigned(missing.id) }
            if isWhole, let extra = signed.keys.sorted().first(where: { id in !objects.contains { $0.id == id } }) {
                throw TrustError.signedObjectMissing(extra)
            }
            guard try covered.headerDigest(metadata.header.algorithm) == metadata.header.bytes else { throw TrustError.headerChanged }
            for object in objects {
                guard let expected = signed[object.id] else { throw TrustError.objectNotSigned(object.id) }
                let descriptor = try covered.descriptorDigest(object.id, relative: expected.relativeID, expected.descriptor.algorithm)
                guard descriptor == expected.descriptor.bytes else { throw TrustError.descriptorChanged(object.id) }
                guard try dataDigest(object, expected.data.algorithm) == expected.data.bytes else {
                    throw TrustError.dataChanged(object.id)
                }
                verified.append(object)
            }
        } catch let error as TrustError { throw error } catch { throw .unreadable("\(error)") }
    }

    private func dataDigest(_ object: Descriptor, _ algorithm: MessageDigest.Algorithm) throws -> [UInt8] {
        let key = "\(object.id) \(algorithm.rawValue)"
        if let known = dataDigests[key] { return known }
        let digest = try covered.dataDigest([object], algorithm)
        dataDigests[key] = digest
        return digest
    }

    private func compareLegacy(_ signature: SignatureObject, _ objects: [Descriptor], _ verified: inout [Descriptor]) throws(TrustError) {
        guard case .signature(let hash, _) = signature.descriptor.detail, let digest = signature.legacyDigest else {
            throw .unknownFormat(signature: signature.descriptor.id)
        }
        let algorithms: [HashType: MessageDigest.Algorithm] = [.sha256: .sha256, .sha384: .sha384, .sha512: .sha512]
        guard let algorithm = algorithms[hash] else {
            throw .badSignature(signature: signature.descriptor.id, why: "hash algorithm \(hash.name) unsupported")
        }
        do {
            guard try covered.dataDigest(objects, algorithm) == digest else { throw TrustError.dataChanged(objects.first?.id ?? 0) }
        } catch let error as TrustError { throw error } catch { throw .unreadable("\(error)") }
        verified += objects
    }
}
