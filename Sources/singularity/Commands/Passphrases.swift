import CommandSyntax
import Cryptography
import Glibc
import Linux
import Trust

/// Where the pass phrases of OpenPGP keys come from.
enum Passphrases {
    static let option = OptionSpec(
        "passphrase-file", nil, .value("path"), "file with the key's pass phrase in its first line; - is standard input",
        environment: ["KEY_PASSPHRASE_FILE"])

    static let advice =
        "give it with --passphrase-file, in SINGULARITY_KEY_PASSPHRASE, or once for a while with `singularity key unlock`"

    /// The name under which the kernel keeps the pass phrase of a key.
    static func kernelName(_ fingerprint: String) -> String { "singularity:openpgp:\(fingerprint)" }

    /// The pass phrase of a protected key: of a file, the environment, the kernel's keyring, or the terminal.
    static func of(_ key: OpenPGPKey, _ parsed: ParsedArguments) throws -> SecretBytes? {
        guard key.isProtected else { return nil }
        if let given = try given(parsed) { return given }
        if let kept = KernelKeys.find(kernelName(key.fingerprint)) { return kept }
        return try Terminal.askSecret("Enter key passphrase : ", instead: advice)
    }

    /// One that was given without asking.
    static func given(_ parsed: ParsedArguments) throws -> SecretBytes? {
        if let path = parsed["passphrase-file"] { return try firstLine(of: path) }
        if let text = Environment.setting("KEY_PASSPHRASE"), !text.isEmpty { return SecretBytes(text) }
        return nil
    }

    /// The first line of a file, without its end.
    static func firstLine(of path: String) throws -> SecretBytes {
        var bytes =
            path == "-"
            ? try Files.read(OwnedDescriptor(dup(0)), name: "standard input", limit: 1 << 16) : try Files.read(path, limit: 1 << 16)
        defer { bytes.withUnsafeMutableBytes { SecretBytes.wipe($0) } }
        var line = Array(bytes.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") })
        guard !line.isEmpty else { throw CommandError("\(path): its first line, which should be the pass phrase, is empty") }
        return SecretBytes(taking: &line)
    }

    /// A new one, asked for twice.
    /// - Returns: nil where the user wants none.
    static func new(_ parsed: ParsedArguments) throws -> SecretBytes? {
        if let text = parsed["password"] { return text.isEmpty ? nil : SecretBytes(text) }
        if let given = try given(parsed) { return given }
        for _ in 0..<3 {
            let phrase = try Terminal.askNewSecret("Enter a passphrase : ", again: "Retype your passphrase : ", instead: advice)
            if let phrase { return phrase.count == 0 ? nil : phrase }
            Program.printError("the two are not the same\n")
        }
        throw CommandError("no pass phrase was given")
    }
}
