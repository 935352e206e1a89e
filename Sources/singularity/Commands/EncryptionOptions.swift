import Build
import CommandSyntax
import Cryptography
import Encryption
import Glibc
import Linux
import Messages
import Runtime

/// Options on encrypted images, and what they mean.
enum EncryptionOptions {
    /// To open one.
    static let opening = [
        OptionSpec("passphrase", nil, .flag, "ask for the pass phrase of an encrypted image"),
        OptionSpec(
            "passphrase-file", nil, .value("path"), "file with the pass phrase of an encrypted image in its first line; - is standard input"
        ),
        OptionSpec("pem-path", nil, .array("path"), "private RSA key for an encrypted image, a PEM file"),
    ]

    /// To make one.
    static let encrypting = [
        OptionSpec("encrypt", "e", .flag, "encrypt the root file system"),
        OptionSpec("passphrase", nil, .flag, "ask for a pass phrase and encrypt with it"),
        OptionSpec("passphrase-file", nil, .value("path"), "encrypt with the pass phrase in the first line of a file; - is standard input"),
        OptionSpec(
            "pem-path", nil, .array("path"), "encrypt for the owner of an RSA key, a PEM file; may be given several times"),
    ]

    /// To make a file system that is written to.
    static let encryptingWritable =
        [OptionSpec("encrypt", "e", .flag, "encrypt what is written, with the key that is given or set in the environment")]
        + encrypting.filter { $0.name != "encrypt" }

    /// To make one of another, which may be encrypted itself.
    static let making =
        encrypting + [
            OptionSpec("source-pem-path", nil, .array("path"), "private RSA key for an encrypted source (default: those of --pem-path)"),
            OptionSpec("source-passphrase-file", nil, .value("path"), "file with the pass phrase of an encrypted source"),
        ]

    private static let instead =
        "set SINGULARITY_ENCRYPTION_PASSPHRASE, or give a file with --passphrase-file or a key with --pem-path"

    /// Keys to open images with. They are read, and the user is asked, when an encrypted image is met.
    static func keys(_ parsed: ParsedArguments) -> ImageKeys {
        let pemFiles = parsed.all("pem-path")
        let passphraseFile = parsed["passphrase-file"]
        let asks = parsed.has("passphrase")
        return ImageKeys { try keys(pemFiles: pemFiles, passphraseFile: passphraseFile, asks: asks) }
    }

    /// Of an encrypted source of a build.
    static func sourceKeys(_ parsed: ParsedArguments) -> ImageKeys {
        let own = parsed.all("source-pem-path")
        let pemFiles = own.isEmpty ? parsed.all("pem-path") : own
        let passphraseFile = parsed["source-passphrase-file"] ?? parsed["passphrase-file"]
        let asks = parsed.has("passphrase")
        return ImageKeys { try keys(pemFiles: pemFiles, passphraseFile: passphraseFile, asks: asks) }
    }

    /// In the peers' order: options, then the environment.
    private static func keys(pemFiles: [String], passphraseFile: String?, asks: Bool) throws -> EncryptionKeys {
        CoreDumps.forbid()
        var keys = EncryptionKeys()
        for path in pemFiles { try add(path, to: &keys, isOnly: pemFiles.count == 1) }
        if let passphraseFile { keys.passphrase = try Passphrases.firstLine(of: passphraseFile) }
        if asks { keys.passphrase = try Terminal.askSecret("Enter encryption passphrase: ", instead: instead) }
        guard keys.isEmpty else { return keys }
        if let path = Environment.setting("ENCRYPTION_PEM_PATH") { try add(path, to: &keys, isOnly: true) }
        if let pem = Environment.setting("ENCRYPTION_PEM_DATA") {
            try keys.add(privateKeyPEM: pem, name: "SINGULARITY_ENCRYPTION_PEM_DATA")
        }
        if let text = Environment.setting("ENCRYPTION_PASSPHRASE"), !text.isEmpty { keys.passphrase = SecretBytes(text) }
        return keys
    }

    private static func add(_ path: String, to keys: inout EncryptionKeys, isOnly: Bool) throws {
        // Of several keys that an image is made for, those without a private half are of no use here.
        do { try keys.add(privateKeyPEM: try pem(path), name: path) } catch { if isOnly { throw error } }
    }

    static func pem(_ path: String) throws -> String {
        do { return try Files.readText(path, limit: 1 << 20) } catch {
            throw CommandError("could not read the key \(path): \(error.reason)")
        }
    }

    /// How a new image shall be encrypted; nil for a plain one.
    static func encryption(_ parsed: ParsedArguments, _ log: Log) throws -> ImageEncryption? {
        let pemFiles = parsed.all("pem-path")
        guard parsed.has("encrypt") || parsed.has("passphrase") || parsed["passphrase-file"] != nil || !pemFiles.isEmpty else {
            if ["ENCRYPTION_PEM_PATH", "ENCRYPTION_PEM_DATA", "ENCRYPTION_PASSPHRASE"].contains(where: { Environment.setting($0) != nil }) {
                log.warning("Encryption related env vars found, but --encrypt was not specified. NOT encrypting container.")
            }
            return nil
        }
        CoreDumps.forbid()
        if !pemFiles.isEmpty {
            return try ImageEncryption(recipients: try pemFiles.map { try Recipient(pem: try pem($0), name: $0) })
        }
        if let path = parsed["passphrase-file"] { return ImageEncryption(passphrase: try Passphrases.firstLine(of: path)) }
        if parsed.has("passphrase") {
            let question = "Enter encryption passphrase: "
            guard let phrase = try Terminal.askNewSecret(question, again: "Repeat encryption passphrase: ", instead: instead) else {
                throw CommandError("the two pass phrases are not the same; nothing is built")
            }
            guard phrase.count > 0 else { throw CommandError("an empty pass phrase protects nothing; nothing is built") }
            return ImageEncryption(passphrase: phrase)
        }
        if let path = Environment.setting("ENCRYPTION_PEM_PATH") {
            return try ImageEncryption(recipients: [try Recipient(pem: try pem(path), name: path)])
        }
        if let text = Environment.setting("ENCRYPTION_PEM_DATA") {
            return try ImageEncryption(recipients: [try Recipient(pem: text, name: "SINGULARITY_ENCRYPTION_PEM_DATA")])
        }
        if let text = Environment.setting("ENCRYPTION_PASSPHRASE"), !text.isEmpty { return ImageEncryption(passphrase: SecretBytes(text)) }
        throw CommandError(
            "--encrypt needs a key: give --passphrase, --passphrase-file or --pem-path, or set SINGULARITY_ENCRYPTION_PASSPHRASE or SINGULARITY_ENCRYPTION_PEM_PATH; nothing is built"
        )
    }
}
