import CommandSyntax
import Glibc
import Linux
import Messages
import Registry
import Runtime
import Trust

/// The keyrings of the user and of the administrator, and the key server.
enum KeyStore {
    static let folderOption = OptionSpec(
        "keysdir", "d", .value("path"), "directory of the keyrings (default ~/.singularity/keys)", environment: ["KEYSDIR"])
    static let serverOption = OptionSpec("url", "u", .value("address"), "key server to use", environment: ["KEYSERVER", "URL"])
    static let globalOption = OptionSpec("global", "g", .flag, "the administrator's keyring, for all users")

    static func keyring(_ parsed: ParsedArguments) -> Keyring {
        let folder = parsed["keysdir"] ?? Environment.setting("KEYSDIR") ?? UserFolders.configuration + "/keys"
        return Keyring(folder: folder, global: globalFile)
    }

    /// The administrator's keyring.
    static let globalFile = "/etc/singularity/global-pgp-public"

    static func server(_ parsed: ParsedArguments) throws -> KeyServer {
        if let url = parsed["url"] { return try KeyServer(url) }
        return try KeyServer(try ConfigurationFile.load()["key server"])
    }

    /// What OpenPGP signatures are checked with.
    /// - Parameter asksServer: keys that are missing are asked for.
    static func source(_ parsed: ParsedArguments, asksServer: Bool, _ log: Log) -> OpenPGPSource {
        let fetch: (String) throws -> [UInt8] = { keyID in
            let server = try server(parsed)
            return try Blocking.run { try await server.get(keyID) }
        }
        return OpenPGPSource(keyring(parsed), warn: { log.warning($0) }, fetch: asksServer ? fetch : nil)
    }

    /// The public keys of the user, or of the administrator.
    static func publicKeys(_ parsed: ParsedArguments) throws -> OpenPGPKeys {
        let keys = try OpenPGPKeys()
        if parsed.has("global") { try keyring(parsed).loadGlobal(into: keys) } else { try keyring(parsed).loadLocal(into: keys) }
        return keys
    }

    static func secretKeys(_ parsed: ParsedArguments) throws -> OpenPGPKeys {
        CoreDumps.forbid()
        let keys = try OpenPGPKeys()
        try keyring(parsed).loadSecret(into: keys)
        return keys
    }

    /// Adds a public key to a keyring, or what is new of it: a later end, a revocation, another name.
    /// - Returns: the number of keys that were not there before.
    static func add(_ fingerprint: String, _ bytes: [UInt8], name: String, _ parsed: ParsedArguments) throws -> Int {
        let keyring = keyring(parsed)
        let file = parsed.has("global") ? keyring.global : keyring.publicFile
        let keys = try publicKeys(parsed)
        let isThere = keys.key(fingerprint) != nil
        // Both together are the newest state.
        try keys.load(bytes, from: .local, name: name)
        let merged = try keys.export(fingerprint, secret: false, armored: false)
        if isThere, try keyring.replace(fingerprint, in: file, with: merged) { return 0 }
        try keyring.append(merged, to: file)
        return 1
    }

    /// Root's matter.
    static func checkGlobal(_ parsed: ParsedArguments) throws {
        if parsed.has("global"), getuid() != 0 { throw CommandError("only root changes the global keyring") }
    }
}
