import BlockIO
import SIF

/// Decides whether an image may run, by the signatures in the file that is open.
public struct PolicyDecision {
    private let policy: VerificationPolicy
    private let openPGP: () -> OpenPGPSource

    /// - Parameter openPGP: the keyrings; asked for where the policy needs them.
    public init(_ policy: VerificationPolicy, openPGP: @escaping () -> OpenPGPSource) {
        (self.policy, self.openPGP) = (policy, openPGP)
    }

    /// What was decided of an image that may run.
    public struct Accepted: Sendable {
        public var signers: [Signer]
        /// Numbers of the objects that accepted signatures cover; nil where nothing was asked for.
        public var objects: Set<UInt32>?
    }

    /// - Parameters:
    ///   - file: nil for an image that is no SIF, and can have no signatures.
    ///   - path: of the open file, without links.
    /// - Throws: where it may not run.
    public func accept(_ file: SIFFile?, _ source: (any BlockSource)?, path: String) throws(TrustError) -> Accepted {
        guard let line = policy.line(for: path) else { throw .policy("\(path): the policy says nothing of this place, so it is not run") }
        if case .unsignedAllowed = line.rule { return Accepted(signers: [], objects: nil) }
        if case .refused = line.rule { throw .policy("\(path): \(line.rule.objection(to: []) ?? "")") }
        guard let file, let source else {
            throw .policy("\(path): only SIF images have signatures that can be verified; make one with `singularity build`")
        }
        let material = KeyMaterial(pem: line.rule.pem, openPGP: line.rule.usesOpenPGP ? openPGP() : nil)
        let verifier = try ImageVerifier(file, source, material)
        try verifier.checkGrouping()
        guard let primary = file.primaryPartition, let group = primary.group else {
            throw .policy("\(path): it has no root file system that is signed")
        }
        var (signers, objects) = try signers(verifier, .group(group))
        if signers.isEmpty && line.allowsLegacy { (signers, objects) = try self.signers(verifier, .legacyObject(primary.id)) }
        if let objection = line.rule.objection(to: signers) { throw .policy("\(path): \(objection)") }
        // Other groups, such as a writable partition that was signed at rest, count by the same rule.
        for other in Set(file.descriptors.compactMap(\.group)).subtracting([group]) {
            guard let found = try? self.signers(verifier, .group(other)), line.rule.objection(to: found.0) == nil else { continue }
            objects.formUnion(found.1)
        }
        return Accepted(signers: signers, objects: objects)
    }

    /// Decides on an image that is open.
    /// - Parameter path: where it is, or where it will be.
    @discardableResult
    public func accept(_ source: FileSource, path: String) throws(TrustError) -> Accepted {
        guard SIFFile.isSIF(source) else { return try accept(nil, nil, path: path) }
        let file: SIFFile
        do throws(SIFError) { file = try SIFFile(reading: source) } catch { throw .unreadable("\(error)") }
        return try accept(file, source, path: path)
    }

    /// Who has signed all of a task. Signatures by keys that are not at hand prove nothing, and do no harm.
    /// - Throws: for a signature of a known key that does not hold.
    private func signers(_ verifier: ImageVerifier, _ task: ImageVerifier.Task) throws(TrustError) -> ([Signer], Set<UInt32>) {
        var signers: [Signer] = []
        var objects: Set<UInt32> = []
        for signature in try verifier.signatures(for: task) {
            let report: ImageVerifier.Report
            do throws(TrustError) { report = try verifier.check(signature, task) } catch {
                if case .noKeyMaterial = error { continue }
                throw error
            }
            switch report.failure {
            case nil:
                if let signer = report.signer { signers.append(signer) }
                objects.formUnion(report.objects.map(\.id))
            case .unknownSigner: continue
            case let failure?: throw failure
            }
        }
        return (signers, objects)
    }
}
