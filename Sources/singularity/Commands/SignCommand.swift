import BlockIO
import CommandSyntax
import Glibc
import Linux
import Messages
import Persistence
import SIF
import Trust

let signCommand = Command(
    spec: CommandSpec(
        "sign", arguments: "<image>", summary: "Sign an image",
        details: """
            Adds a signature for each group of objects, with an OpenPGP key of the keyring or with a private key of a PEM file.

            A writable partition is kept out: it gets a group of its own, so that what is written later voids no signature.
            With --group-id or --sif-id it is signed itself, while nobody uses it; such a signature holds until the next write.
            """,
        examples: [
            "singularity sign app.sif", "singularity sign --key private.pem app.sif", "singularity sign --sif-id 1 app.sif",
        ],
        options: [
            OptionSpec("key", nil, .value("path"), "private key of a PEM file: RSA, ECDSA or Ed25519", environment: ["SIGN_KEY"]),
            OptionSpec("keyidx", "k", .value("number"), "which of the secret keys, as `key list --secret` counts them"),
            OptionSpec("fingerprint", nil, .value("digits"), "the secret key with this fingerprint"),
            Passphrases.option, KeyStore.folderOption,
            OptionSpec("group-id", "g", .value("number"), "sign one group of objects", aliases: ["groupid"]),
            OptionSpec("sif-id", "i", .value("number"), "sign one object", aliases: ["id"]),
            OptionSpec("all", "a", .flag, "accepted: every group is signed anyhow"),
        ], argumentCount: 1...1)
) { parsed, log in
    let path = parsed.arguments[0]
    do {
        let selection: ImageSigner.Selection
        if let group = try SignatureOptions.number(parsed, "group-id") {
            selection = .group(group)
        } else if let object = try SignatureOptions.number(parsed, "sif-id") {
            selection = .object(object)
        } else {
            selection = .all
        }
        let key: ImageSigner.Key
        if let file = parsed["key"] {
            log.info("Signing image with key material from '\(file)'")
            CoreDumps.forbid()
            key = .pem(try SigningKey(pem: try SignatureOptions.text(of: file)))
        } else {
            log.info("Signing image with PGP key material")
            key = try SignatureOptions.secretKey(parsed)
        }
        // Nobody may write to a partition while it is digested.
        let rest = try AtRest(path, selection)
        let outcome = try ImageSigner(path, key).sign(selection)
        rest.end()
        for id in outcome.separated {
            log.info("The writable partition (object \(id)) has a group of its own now: writing to it voids no signature")
        }
        for group in outcome.leftOut { log.info("Group \(group), a writable partition, is not signed; --group-id \(group) signs it") }
    } catch {
        throw CommandError("Failed to sign container: \(SignatureOptions.sentence(error))")
    }
    log.info("Signature created and applied to image '\(path)'")
    return 0
}

/// A writable partition that nobody changes while it is signed.
private struct AtRest {
    private let held: HeldImage?

    init(_ path: String, _ selection: ImageSigner.Selection) throws {
        guard let sif = try? SIFFile(reading: try FileSource(path: path)) else {
            held = nil
            return
        }
        let isMeant = sif.descriptors.contains { object in
            guard object.isWritablePartition else { return false }
            switch selection {
            case .group(let group): return object.group == group
            case .object(let id): return object.id == id
            // A data container has nothing else.
            case .all: return sif.descriptors.allSatisfy { $0.isWritablePartition || $0.group != object.group }
            }
        }
        held = isMeant ? try WritableImage(path).hold(forWriting: true, "sign") : nil
    }

    func end() { _ = held }
}

/// What `sign` and `verify` share.
enum SignatureOptions {
    static func number(_ parsed: ParsedArguments, _ name: String) throws -> UInt32? {
        guard let text = parsed[name] else { return nil }
        guard let number = UInt32(text) else { throw CommandError("--\(name) \(text) is not a number") }
        return number == 0 ? nil : number
    }

    /// A small text file.
    static func text(of path: String) throws -> String {
        do { return try Files.readText(path, limit: 1 << 20) } catch {
            throw CommandError("Failed to load key material: open \(path): \(error.reason.lowercased())")
        }
    }

    /// The secret key to sign with: the one that is named, the only one, or the one that the user chooses.
    static func secretKey(_ parsed: ParsedArguments) throws -> ImageSigner.Key {
        let ring = try KeyStore.secretKeys(parsed)
        let keys = try ring.keys
        guard !keys.isEmpty else { throw CommandError("keyring is empty; `singularity key newpair` makes a key, `key import` takes one") }
        let key: OpenPGPKey
        if let fingerprint = parsed["fingerprint"] {
            guard let found = keys.first(where: { $0.isNamed(fingerprint) }) else {
                throw CommandError("the keyring has no secret key \(fingerprint)")
            }
            key = found
        } else {
            key = keys[try index(parsed, keys)]
        }
        return .openPGP(ring, key, passphrase: try Passphrases.of(key, parsed))
    }

    private static func index(_ parsed: ParsedArguments, _ keys: [OpenPGPKey]) throws -> Int {
        if let text = parsed["keyidx"] {
            guard let index = Int(text), keys.indices.contains(index) else {
                throw CommandError("index out of range; `singularity key list --secret` counts the keys from 0")
            }
            return index
        }
        if keys.count == 1 { return 0 }
        return try KeyListing.choose(keys, "Enter # of private key to use : ")
    }

    /// An error behind the peers' prefix.
    static func sentence(_ error: any Error) -> String {
        if let error = error as? TrustError, error.isIntegrity { return "integrity: \(error)" }
        return "\(error)"
    }
}
