import Linux
import Registry
import Trust

/// An image of a registry that certain keys must have signed.
struct SignedRegistryImage {
    private let reference: ImageReference
    private let options: FetchOptions

    init(_ name: String, _ options: FetchOptions) throws {
        reference = try ImageReference(name)
        self.options = options
    }

    /// The digest of the image, for the platform that is wanted, once all keys have signed it, or the index that it is chosen from.
    ///
    /// What is fetched by this digest is what was signed, whatever the registry does meanwhile.
    /// - Parameter fingerprints: upper-case digits.
    func digest(signedByAllOf fingerprints: [String], _ keyring: Keyring) throws -> String {
        let cache = try options.blobCache()
        let client = try options.registryClient()
        let stores = try SignatureStores(home: options.home)
        let (manifest, index) = try Blocking.run {
            try await client.digests(reference, cache: cache, options: options.pull)
        }
        let reader = try ContainerSignature.Reader(keyring, fingerprints)
        var missing = Set(fingerprints)
        var reasons: [String] = []
        for digest in manifest == index ? [manifest] : [manifest, index] {
            let (found, place) = try Blocking.run {
                try await stores.signatures(of: digest, reference, limit: ContainerSignature.largest)
            }
            if found.isEmpty { reasons.append("there is none in \(place)") }
            for message in found {
                switch try reader.read(message) {
                case .success(let signature):
                    if let objection = objection(to: signature, "\(digest)") {
                        reasons.append(objection)
                    } else {
                        missing.remove(signature.signer)
                    }
                case .failure(let failure): reasons.append("\(failure)")
                }
            }
        }
        guard missing.isEmpty else {
            throw BuildError.refused(
                "Fingerprints: \(reference) (\(manifest)) is not signed by \(missing.sorted().joined(separator: ", ")): \(reasons.joined(separator: "; "))"
            )
        }
        return "\(manifest)"
    }

    /// Why a good signature is not one of this image under this name; nil where it is.
    private func objection(to signature: ContainerSignature, _ digest: String) -> String? {
        guard signature.digest == digest else { return "a signature is for the manifest \(signature.digest)" }
        guard let signed = try? ImageReference(signature.reference) else { return "a signature names no image" }
        let isSame =
            signed.registry == reference.registry && signed.repository == reference.repository
            && (reference.digest != nil || signed.digest == nil && signed.tag == reference.tag)
        return isSame ? nil : "a signature is for the name \(signature.reference)"
    }
}
