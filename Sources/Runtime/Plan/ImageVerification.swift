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

    /// Decides on the open file, which is then mounted.
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

    /// Starts to check an image. A child does it, so that the caller can go on with what changes nothing, and has neither the
    /// library of OpenPGP in its memory nor threads.
    func begin(_ image: ImageFile, _ log: Log) throws -> PendingVerification {
        PendingVerification(
            path: image.path,
            answer: try ChildAnswer(
                {
                    do throws(TrustError) {
                        let accepted = try decide(image)
                        for signer in accepted.signers {
                            log.verbose(
                                "signed by \(signer.openPGP.map { "\($0.name) (\($0.fingerprint))" } ?? signer.pemFingerprint ?? "")")
                        }
                        return Array(("+" + (accepted.objects.map { $0.sorted().map { " \($0)" }.joined() } ?? "*")).utf8)
                    } catch { return Array("-\(error)".utf8) }
                }, failed: { _ in }))
    }
}

/// A check that is under way. Nothing of the image may run before ``finish()`` has returned.
struct PendingVerification: ~Copyable {
    let path: String
    fileprivate let answer: ChildAnswer

    fileprivate init(path: String, answer: consuming ChildAnswer) {
        self.path = path
        self.answer = answer
    }

    /// Waits for the decision.
    /// - Returns: numbers of the objects that accepted signatures cover; nil where no signature was asked for.
    /// - Throws: ``RuntimeError/badImage(_:why:)`` where the image may not run, or nothing was decided.
    consuming func finish() throws -> Set<UInt32>? {
        let path = path
        let bytes = try answer.wait() ?? []
        let text = String(decoding: bytes.dropFirst(), as: UTF8.self)
        guard bytes.first == UInt8(ascii: "+") else {
            throw RuntimeError.badImage(path, why: "its signatures are not accepted: \(text.isEmpty ? "the check was broken off" : text)")
        }
        return text == "*" ? nil : Set(text.split(separator: " ").compactMap { UInt32($0) })
    }
}

extension ImageFile {
    /// The image without overlay partitions that nobody has vouched for.
    /// - Parameters:
    ///   - objects: that are covered by accepted signatures.
    ///   - isWritten: the user wants to write to the image's own writable partition.
    func vouchedFor(_ objects: Set<UInt32>, isWritten: Bool, _ log: Log) -> ImageFile {
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
