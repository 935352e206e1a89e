import CommandSyntax
import Cryptography
import Glibc
import Linux
import Messages
import Registry
import SIF
import Trust

let keyCommands = [
    Command(
        spec: CommandSpec(
            "key newpair", arguments: "", summary: "Make a pair of OpenPGP keys",
            details: "Asks for what is not given. An empty pass phrase leaves the secret key unprotected.",
            examples: ["singularity key newpair", "singularity key newpair --name 'Ada' --email ada@example.org --passphrase-file phrase"],
            options: [
                OptionSpec("name", "N", .value("text"), "name of the key's owner"),
                OptionSpec("email", "E", .value("address"), "mail address of the key's owner"),
                OptionSpec("comment", "C", .value("text"), "comment in the user identity"),
                OptionSpec("password", "P", .value("text"), "pass phrase; other users can see it while the command runs", hidden: true),
                Passphrases.option,
                OptionSpec("bit-length", "b", .value("number"), "bits of the RSA keys (default 4096)"),
                OptionSpec("push", "U", .flag, "hand the public key to the key server"), KeyStore.serverOption, KeyStore.folderOption,
            ], argumentCount: 0...0)
    ) { parsed, log in try failing(2, "newpair", log) { try KeyMaking(parsed, log).run() } },
    Command(
        spec: CommandSpec(
            "key list", arguments: "", summary: "List the keys of a keyring",
            examples: ["singularity key list", "singularity key list --secret"],
            options: [
                OptionSpec("secret", "s", .flag, "the secret keys", aliases: ["private"]), KeyStore.globalOption, KeyStore.folderOption,
            ],
            argumentCount: 0...0)
    ) { parsed, _ in
        let isSecret = parsed.has("secret")
        let keyring = KeyStore.keyring(parsed)
        let file = isSecret ? keyring.secretFile : parsed.has("global") ? keyring.global : keyring.publicFile
        print("\(isSecret ? "Private" : "Public") key listing (\(file)):\n")
        let ring = isSecret ? try KeyStore.secretKeys(parsed) : try KeyStore.publicKeys(parsed)
        print(KeyListing.text(try ring.keys), terminator: "")
        return 0
    },
    Command(
        spec: CommandSpec(
            "key import", arguments: "<file|directory>", summary: "Take keys into the keyring",
            details: """
                The file holds public or secret keys, binary or armored. A directory is a keyring of Singularity or Apptainer, all of
                which is taken over: `key import ~/.apptainer/keys`.
                """,
            examples: ["singularity key import colleague.asc", "singularity key import ~/.apptainer/keys"],
            options: [
                OptionSpec("new-password", nil, .flag, "accepted: the pass phrase stays what it is", hidden: true), KeyStore.globalOption,
                KeyStore.folderOption,
            ], argumentCount: 1...1)
    ) { parsed, log in try failing(2, "import", log) { try importKeys(parsed, log) } },
    Command(
        spec: CommandSpec(
            "key export", arguments: "<file>", summary: "Write a key to a file",
            examples: [
                "singularity key export --armor me.asc", "singularity key export --secret --fingerprint 9C3C1B1B23E755F7 backup.pgp",
            ],
            options: [
                OptionSpec("secret", "s", .flag, "the secret key"), OptionSpec("armor", "a", .flag, "as text"),
                OptionSpec("fingerprint", nil, .value("digits"), "the key with this fingerprint, without asking"), KeyStore.globalOption,
                KeyStore.folderOption,
            ], argumentCount: 1...1)
    ) { parsed, log in try failing(10, "export", log) { try exportKey(parsed) } },
    Command(
        spec: CommandSpec(
            "key remove", arguments: "<fingerprint>", summary: "Remove a key from the keyring",
            examples: ["singularity key remove 9C3C1B1B23E755F72A55254249523201BBE9E817"],
            options: [
                OptionSpec("public", "p", .flag, "the public key (the default)"), OptionSpec("secret", "s", .flag, "the secret key"),
                OptionSpec("both", "b", .flag, "both"), KeyStore.globalOption, KeyStore.folderOption,
            ], argumentCount: 1...1)
    ) { parsed, _ in
        try KeyStore.checkGlobal(parsed)
        let keyring = KeyStore.keyring(parsed)
        let isBoth = parsed.has("both")
        if isBoth || !parsed.has("secret") {
            try remove(parsed, try KeyStore.publicKeys(parsed), parsed.has("global") ? keyring.global : keyring.publicFile, secret: false)
        }
        if isBoth || parsed.has("secret") { try remove(parsed, try KeyStore.secretKeys(parsed), keyring.secretFile, secret: true) }
        return 0
    },
    Command(
        spec: CommandSpec(
            "key search", arguments: "<text>", summary: "Look for keys on a key server",
            examples: ["singularity key search ada@example.org", "singularity key search --long-list 0x49523201BBE9E817"],
            options: [OptionSpec("long-list", "l", .flag, "print fingerprints, dates and states"), KeyStore.serverOption],
            argumentCount: 1...1)
    ) { parsed, log in
        try failing(2, "search", log) {
            let server = try KeyStore.server(parsed)
            let digits = OpenPGPKey.digits(parsed.arguments[0])
            let isKey = digits.count >= 8 && Hexadecimal.bytes(digits) != nil
            let entries = try Blocking.run { try await server.index(isKey ? "0x\(digits)" : parsed.arguments[0]) }
            print(KeySearch.text(entries, isLong: parsed.has("long-list"), now: Int64(time(nil))), terminator: "")
        }
    },
    Command(
        spec: CommandSpec(
            "key pull", arguments: "<fingerprint>", summary: "Get a key from a key server",
            examples: ["singularity key pull 9C3C1B1B23E755F72A55254249523201BBE9E817"],
            options: [KeyStore.serverOption, KeyStore.globalOption, KeyStore.folderOption], argumentCount: 1...1)
    ) { parsed, log in try failing(2, "pull", log) { try pull(parsed) } },
    Command(
        spec: CommandSpec(
            "key push", arguments: "<fingerprint>", summary: "Hand a public key to a key server",
            examples: ["singularity key push 9C3C1B1B23E755F72A55254249523201BBE9E817"],
            options: [KeyStore.serverOption, KeyStore.folderOption], argumentCount: 1...1)
    ) { parsed, log in try failing(2, "push", log) { try push(parsed, parsed.arguments[0]) } },
    Command(
        spec: CommandSpec(
            "key unlock", arguments: "[fingerprint]", summary: "Let the kernel keep a key's pass phrase for a while",
            details: "`sign` then asks no more. The pass phrase is in the kernel's memory (keyrings(7)), where only you can read it.",
            examples: ["singularity key unlock", "singularity key unlock --timeout 28800 9C3C1B1B23E755F7"],
            options: [
                OptionSpec("timeout", nil, .value("seconds"), "forget it after so long (default 3600)"), Passphrases.option,
                KeyStore.folderOption,
            ], argumentCount: 0...1)
    ) { parsed, log in try failing(2, "unlock", log) { try unlock(parsed) } },
    Command(
        spec: CommandSpec(
            "key lock", arguments: "[fingerprint]", summary: "Let the kernel forget pass phrases", examples: ["singularity key lock"],
            options: [KeyStore.folderOption], argumentCount: 0...1)
    ) { parsed, log in
        try failing(2, "lock", log) {
            for key in try KeyStore.secretKeys(parsed).keys where parsed.arguments.first.map(key.isNamed) ?? true {
                KernelKeys.forget(Passphrases.kernelName(key.fingerprint))
            }
        }
    },
]

/// The status and words of the peers for a command that fails.
private func failing(_ status: Int32, _ name: String, _ log: Log, _ body: () throws -> Void) throws -> Int32 {
    do { try body() } catch {
        log.error("key \(name) command failed: \(error)")
        return status
    }
    return 0
}

/// The secret key that is meant: the named one, or the only one.
private func unlock(_ parsed: ParsedArguments) throws {
    let ring = try KeyStore.secretKeys(parsed)
    let keys = try ring.keys.filter { parsed.arguments.first.map($0.isNamed) ?? true }
    guard let key = keys.first else { throw CommandError("the keyring has no such secret key; `singularity key list --secret` shows all") }
    guard keys.count == 1 else { throw CommandError("there are \(keys.count) secret keys: name one by its fingerprint") }
    guard key.isProtected else { throw CommandError("the key \(key.fingerprint) has no pass phrase") }
    guard let seconds = UInt32(parsed["timeout"] ?? "3600") else { throw CommandError("--timeout: give a number of seconds") }
    let phrase = try Passphrases.given(parsed) ?? Terminal.askSecret("Enter key passphrase : ", instead: "give it with --passphrase-file")
    guard ring.isPassphrase(phrase, of: key.fingerprint) else {
        throw CommandError("the pass phrase is not that of the key \(key.fingerprint)")
    }
    guard KernelKeys.keep(phrase, as: Passphrases.kernelName(key.fingerprint), seconds: seconds) else {
        throw CommandError("this kernel keeps no secrets for users (\(SystemError.last("add_key").reason)); use --passphrase-file")
    }
}

private func importKeys(_ parsed: ParsedArguments, _ log: Log) throws {
    try KeyStore.checkGlobal(parsed)
    let path = parsed.arguments[0]
    let keyring = KeyStore.keyring(parsed)
    let isFolder = Files.isDirectory(path)
    let files = isFolder ? ["pgp-public", "pgp-secret"].map { "\(path)/\($0)" }.filter { Files.status($0) != nil } : [path]
    guard !files.isEmpty else { throw CommandError("\(path) is no keyring: it has neither pgp-public nor pgp-secret") }
    for file in files {
        let loaded = try OpenPGPKeys()
        let bytes = try Files.read(file)
        try loaded.load(bytes, from: .local, name: file)
        let keys = try loaded.keys
        // Of a keyring the packets are taken as they are.
        let raw = try KeyPackets(bytes).keys
        guard !keys.isEmpty || isFolder else { throw CommandError("\(file): no valid OpenPGP keys were found") }
        for key in keys {
            let known = key.hasSecret ? try KeyStore.secretKeys(parsed) : try KeyStore.publicKeys(parsed)
            guard known.key(key.fingerprint) == nil else {
                if isFolder { continue }
                throw CommandError("the key with fingerprint \(key.fingerprint) already belongs to the keyring")
            }
            let packets =
                try raw.first { $0.fingerprint == key.fingerprint }.map { Array($0.packets) }
                ?? loaded.export(key.fingerprint, secret: key.hasSecret, armored: false)
            try keyring.append(packets, to: key.hasSecret ? keyring.secretFile : parsed.has("global") ? keyring.global : keyring.publicFile)
            print("Key with fingerprint \(key.fingerprint) successfully added to the \(key.hasSecret ? "private" : "public") keyring")
        }
    }
}

private func exportKey(_ parsed: ParsedArguments) throws {
    let isSecret = parsed.has("secret")
    let ring = isSecret ? try KeyStore.secretKeys(parsed) : try KeyStore.publicKeys(parsed)
    let keys = try ring.keys
    guard !keys.isEmpty else { throw CommandError("no \(isSecret ? "private" : "public") key in the keyring") }
    let key: OpenPGPKey
    if let name = parsed["fingerprint"] {
        guard let found = keys.first(where: { $0.isNamed(name) }) else { throw CommandError("the keyring has no key \(name)") }
        key = found
    } else {
        key = keys[try KeyListing.choose(keys, "Enter # of \(isSecret ? "private" : "public") key to use : ")]
    }
    let path = parsed.arguments[0]
    try Files.replace(
        path, with: try ring.export(key.fingerprint, secret: isSecret, armored: parsed.has("armor")), mode: isSecret ? 0o600 : 0o644)
    print("\(isSecret ? "Private" : "Public") key with fingerprint \(key.fingerprint) correctly exported to file: \(path)")
}

private func remove(_ parsed: ParsedArguments, _ ring: OpenPGPKeys, _ file: String, secret: Bool) throws {
    guard let digits = OpenPGPKey.identifier(parsed.arguments[0], lengths: [40]) else {
        throw CommandError(
            "Unable to remove \(secret ? "private" : "public") key: \(parsed.arguments[0]) is not a fingerprint of 40 digits")
    }
    let keys = try ring.keys
    guard keys.contains(where: { $0.fingerprint == digits }) else {
        throw CommandError("Unable to remove \(secret ? "private" : "public") key: no key matching given fingerprint found")
    }
    guard try KeyStore.keyring(parsed).replace(digits, in: file, with: []) else {
        throw CommandError("Unable to remove \(secret ? "private" : "public") key: \(file) is damaged")
    }
}

/// Names a key of a server.
private func identifier(_ text: String) throws -> String {
    guard let digits = OpenPGPKey.identifier(text) else {
        throw CommandError("please provide a keyid(16 chars) or a full fingerprint(40 chars)")
    }
    return digits
}

private func pull(_ parsed: ParsedArguments) throws {
    try KeyStore.checkGlobal(parsed)
    let digits = try identifier(parsed.arguments[0])
    let server = try KeyStore.server(parsed)
    let answer = try Blocking.run { try await server.get(digits) }
    // A server may answer with anything: only what was asked for is taken.
    let keys = try OpenPGPKeys()
    try keys.load(answer, from: .remote, name: server.name)
    guard let key = try keys.keys.first(where: { $0.isNamed(digits) }) else {
        throw CommandError("\(server.name) sent another key than 0x\(digits)")
    }
    let added = try KeyStore.add(key.fingerprint, answer, name: server.name, parsed)
    let keyring = KeyStore.keyring(parsed)
    print("\(added) key(s) added to keyring of trust \(parsed.has("global") ? keyring.global : keyring.publicFile)")
}

private func push(_ parsed: ParsedArguments, _ name: String) throws {
    let digits = try identifier(name)
    let ring = try KeyStore.publicKeys(parsed)
    guard let key = try ring.keys.first(where: { $0.isNamed(digits) }) else { throw CommandError("the keyring has no key \(digits)") }
    let armored = try ring.export(key.fingerprint, secret: false, armored: true)
    let server = try KeyStore.server(parsed)
    try Blocking.run { try await server.add(armored) }
    print("public key `\(digits)' pushed to server successfully")
}

/// `key newpair`.
private struct KeyMaking {
    let parsed: ParsedArguments
    let log: Log

    init(_ parsed: ParsedArguments, _ log: Log) { (self.parsed, self.log) = (parsed, log) }

    func run() throws {
        guard let bits = Int(parsed["bit-length"] ?? "4096"), (2048...16384).contains(bits) else {
            throw CommandError("--bit-length: give a number from 2048 to 16384")
        }
        let name = try asked("name", "Enter your name (e.g., John Doe) : ")
        let email = try asked("email", "Enter your email address (e.g., john.doe@example.com) : ")
        let comment = parsed["comment"] ?? (isInteractive ? Terminal.ask("Enter optional comment (e.g., development keys) : ") ?? "" : "")
        for text in [name, email, comment] where text.contains(where: { "()<>".contains($0) || $0.isNewline }) {
            throw CommandError("\(text): names, comments and addresses are written without parentheses and angle brackets")
        }
        if parsed.isGiven("password") { log.warning("a pass phrase on the command line can be seen by others; --passphrase-file cannot") }
        let passphrase = try Passphrases.new(parsed)
        print("Generating Entity and OpenPGP Key Pair... ", terminator: "")
        fflush(nil)
        let keys = try OpenPGPKeys()
        let fingerprint = try keys.generate(
            userID: name + (comment.isEmpty ? "" : " (\(comment))") + " <\(email)>", bits: bits, passphrase: passphrase)
        let keyring = KeyStore.keyring(parsed)
        try keyring.append(try keys.export(fingerprint, secret: true, armored: false), to: keyring.secretFile)
        try keyring.append(try keys.export(fingerprint, secret: false, armored: false), to: keyring.publicFile)
        print("done")
        if parsed.has("push") { try push(parsed, fingerprint) }
    }

    /// Nothing was given: the user answers questions.
    private var isInteractive: Bool { !parsed.isGiven("name") && !parsed.isGiven("email") }

    private func asked(_ name: String, _ question: String) throws -> String {
        let answer = parsed[name] ?? Terminal.ask(question) ?? ""
        guard !answer.isEmpty else { throw CommandError("--\(name) is needed") }
        return answer
    }
}
