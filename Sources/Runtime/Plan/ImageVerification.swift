import Linux
import Messages
import SIF
import Trust

/// What must be true of an image's signatures before it is mounted.
public struct ImageVerification: Sendable {
    /// A key, a policy, or `yes`; see ``VerificationPolicy/init(request:)``.
    let request: String
    let keyring: Keyring

    public init(request: String, keyring: Keyring) {
        (self.request, self.keyring) = (request, keyring)
    }

    /// Decides on the open file, which is then mounted. No threads are started, and nothing of the image has run before it returns.
    /// - Parameter isWritten: the user wants to write to the image's own writable partition.
    /// - Returns: the image without overlay partitions that nobody has vouched for.
    /// - Throws: ``RuntimeError/badImage(_:why:)`` where it may not run.
    func check(_ image: ImageFile, isWritten: Bool, _ log: Log) throws(RuntimeError) -> ImageFile {
        let accepted: PolicyDecision.Accepted
        do throws(TrustError) { accepted = try decide(image) } catch {
            throw .badImage(image.path, why: "its signatures are not accepted: \(error)")
        }
        for signer in accepted.signers {
            log.verbose("signed by \(signer.openPGP.map { "\($0.name) (\($0.fingerprint))" } ?? signer.pemFingerprint ?? "")")
        }
        guard let objects = accepted.objects else { return image }
        return image.vouchedFor(objects, isWritten: isWritten, log)
    }

    private func decide(_ image: ImageFile) throws(TrustError) -> PolicyDecision.Accepted {
        let decision = PolicyDecision(try VerificationPolicy(request: request)) { OpenPGPSource(keyring, isSelective: true) }
        let path: String
        if let sif = image.sif {
            guard let opened = Files.readLink("/proc/self/fd/\(sif.source.descriptor.rawValue)") else {
                throw .policy("its place cannot be found out; nothing is run")
            }
            path = opened
        } else {
            path = Files.resolved(image.path) ?? image.path
        }
        return try decision.accept(image.sif?.file, image.sif?.source, path: path)
    }
}

extension ImageFile {
    /// The image without overlay partitions that nobody has vouched for.
    /// - Parameters:
    ///   - objects: that are covered by accepted signatures.
    ///   - isWritten: the user wants to write to the image's own writable partition.
    fileprivate func vouchedFor(_ objects: Set<UInt32>, isWritten: Bool, _ log: Log) -> ImageFile {
        let written = isWritten ? overlays.last(where: \.isWritable)?.object : nil
        return with(
            overlays: overlays.filter { overlay in
                if objects.contains(overlay.object) { return true }
                if overlay.object == written {
                    log.warning("the overlay partition (object \(overlay.object)), which --writable uses, is not covered by a signature")
                    return true
                }
                log.warning("the overlay partition (object \(overlay.object)) is not covered by a signature, and is left out")
                return false
            })
    }
}
