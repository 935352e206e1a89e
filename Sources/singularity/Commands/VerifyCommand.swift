import BlockIO
import CommandSyntax
import Glibc
import Linux
import Messages
import Registry
import SIF
import Trust

let verifyCommand = Command(
    spec: CommandSpec(
        "verify", arguments: "<image>", summary: "Check the signatures of an image",
        details: """
            Every group of objects must be signed, and every signature must be good. A writable partition has a group of its
            own: without --all it may be unsigned, or have changed since it was signed, and is named in a warning.
            """,
        examples: [
            "singularity verify app.sif", "singularity verify --key public.pem app.sif",
            "singularity verify --certificate signer.pem --certificate-roots ca.pem app.sif", "singularity verify --json --local app.sif",
        ],
        options: [
            OptionSpec("key", nil, .value("path"), "public key of a PEM file", environment: ["VERIFY_KEY"]),
            OptionSpec("certificate", nil, .value("path"), "X.509 certificate of the signer", environment: ["VERIFY_CERTIFICATE"]),
            OptionSpec(
                "certificate-intermediates", nil, .value("path"), "certificates between it and a root",
                environment: ["VERIFY_INTERMEDIATES"]),
            OptionSpec(
                "certificate-roots", nil, .value("path"), "certificates that are trusted (default: the system's)",
                environment: ["VERIFY_ROOTS"]
            ),
            OptionSpec("ocsp-verify", nil, .flag, "ask whether a certificate was revoked", environment: ["VERIFY_OCSP"]),
            OptionSpec("group-id", "g", .value("number"), "check one group of objects", aliases: ["groupid"]),
            OptionSpec("sif-id", "i", .value("number"), "check one object", aliases: ["id"]),
            OptionSpec("all", "a", .flag, "writable partitions must be signed, too"),
            OptionSpec("legacy-insecure", nil, .flag, "accept signatures of Singularity before 3.6, which cover the data alone"),
            OptionSpec("local", "l", .flag, "ask no key server", environment: ["LOCAL_VERIFY"]),
            OptionSpec("json", "j", .flag, "print JSON"),
            KeyStore.serverOption, KeyStore.folderOption,
        ], argumentCount: 1...1)
) { parsed, log in
    do { try Verification(parsed, log).run() } catch {
        throw CommandError("Failed to verify container: \(SignatureOptions.sentence(error))")
    }
    return 0
}

/// One call of `verify`.
private struct Verification {
    let parsed: ParsedArguments
    let log: Log
    private var path: String { parsed.arguments[0] }

    init(_ parsed: ParsedArguments, _ log: Log) { (self.parsed, self.log) = (parsed, log) }

    func run() throws {
        let material = try material()
        let source: FileSource
        do { source = try FileSource(path: path) } catch { throw CommandError("open \(path): \(error.reason.lowercased())") }
        let verifier = try ImageVerifier(try SIFFile(reading: source), source, material)
        let isLegacy = parsed.has("legacy-insecure")
        let tasks: [ImageVerifier.Task]
        if let group = try SignatureOptions.number(parsed, "group-id") {
            tasks = [try verifier.task(group: group, legacy: isLegacy)]
        } else if let object = try SignatureOptions.number(parsed, "sif-id") {
            tasks = [try verifier.task(object: object, legacy: isLegacy)]
        } else if isLegacy {
            tasks = try verifier.legacyTasks(all: parsed.has("all"))
        } else {
            tasks = try verifier.groupTasks(withWritable: parsed.has("all"))
        }
        if parsed.has("json") { try printJSON(verifier, tasks) } else { try printText(verifier, tasks) }
        if !isLegacy && !parsed.has("all") && !parsed.isGiven("group-id") && !parsed.isGiven("sif-id") { warnOfWritable(verifier) }
        if !parsed.has("json") { log.info("Verified signature(s) from image '\(path)'") }
    }

    /// Says it first, as the peers do.
    private func material() throws -> KeyMaterial {
        if let file = parsed["certificate"] {
            log.info("Verifying image with key material from certificate '\(file)'")
            let ocsp: CodeCertificate.OCSPQuery = { request, address in
                try await WebExchange.post(request, to: address, contentType: "application/ocsp-request", limit: 1 << 20)
            }
            return KeyMaterial(pem: [
                try CodeCertificate.key(
                    pem: try SignatureOptions.text(of: file), roots: try parsed["certificate-roots"].map(SignatureOptions.text),
                    intermediates: try parsed["certificate-intermediates"].map(SignatureOptions.text),
                    ocsp: parsed.has("ocsp-verify") ? ocsp : nil)
            ])
        }
        if let file = parsed["key"] {
            log.info("Verifying image with key material from '\(file)'")
            return KeyMaterial(pem: [try VerificationKey(pem: try SignatureOptions.text(of: file))])
        }
        log.info("Verifying image with PGP key material")
        return KeyMaterial(openPGP: KeyStore.source(parsed, asksServer: !parsed.has("local"), log))
    }

    private func printText(_ verifier: ImageVerifier, _ tasks: [ImageVerifier.Task]) throws {
        try verifier.verify(tasks) { report in
            if let key = report.signer?.openPGP {
                let (label, colour) =
                    switch key.place {
                    case .global: ("[GLOBAL]", "\u{1b}[36m")
                    case .local: ("[LOCAL]", "\u{1b}[32m")
                    case .remote: ("[REMOTE]", "\u{1b}[33m")
                    }
                let shown = isatty(1) != 0 && log.usesColour ? "\(colour)\(label)\u{1b}[0m" : label
                let prefix = shown + String(repeating: " ", count: max(0, 18 - shown.count)) + " "
                print("\(prefix)Signing entity: \(key.name)\n\(prefix)Fingerprint: \(key.fingerprint)")
            }
            if !report.objects.isEmpty {
                print("Objects verified:\nID  |GROUP   |LINK    |TYPE\n" + String(repeating: "-", count: 48))
                for object in report.objects { print(row(object)) }
            }
            if let failure = report.failure { print("\nError encountered during signature verification: \(failure)") }
            fflush(nil)
        }
    }

    private func row(_ object: Descriptor) -> String {
        func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }
        let (group, link) = (Listing.group(object), Listing.link(object, gap: " "))
        return "\(padded("\(object.id)", 4))|\(padded(group, 8))|\(padded(link, 8))|\(object.type?.name ?? "Unknown")"
    }

    private func printJSON(_ verifier: ImageVerifier, _ tasks: [ImageVerifier.Task]) throws {
        var count = 0
        var signers: [JSONValue] = []
        defer {
            let keys: JSONValue = signers.isEmpty ? .null : .array(signers)
            print(JSONValue.object([("Signatures", .number(count)), ("SignerKeys", keys)]).indented(by: "  "))
        }
        try verifier.verify(tasks) { report in
            count += 1
            signers += report.objects.map { signer(report, $0, isIntact: true) }
            if case .dataChanged(let id)? = report.failure, let object = verifier.file.descriptors.first(where: { $0.id == id }) {
                signers.append(signer(report, object, isIntact: false))
            }
        }
    }

    private func signer(_ report: ImageVerifier.Report, _ object: Descriptor, isIntact: Bool) -> JSONValue {
        let key = report.signer?.openPGP
        return .object([
            (
                "Signer",
                .object([
                    ("Partition", .string(object.type?.name ?? "Unknown")), ("Name", .string(key?.name ?? "unknown")),
                    ("Fingerprint", .string(key?.fingerprint.lowercased() ?? "")), ("KeyLocal", .bool(key?.place == .local)),
                    ("KeyCheck", .bool(key != nil)), ("DataCheck", .bool(isIntact)),
                ])
            )
        ])
    }

    /// What is not covered, and changes what a container shows or can be given.
    private func warnOfWritable(_ verifier: ImageVerifier) {
        for group in verifier.writableGroups {
            let objects = verifier.file.descriptors.filter { $0.group == group }.map { "object \($0.id)" }.joined(separator: ", ")
            do {
                try verifier.verify([.group(group)]) { _ in }
            } catch TrustError.notSigned {
                log.warning(
                    "the writable partition (\(objects)) is not covered by a signature; `exec --verify` leaves it out unless --writable is given"
                )
            } catch {
                log.warning("the writable partition (\(objects)) is not what was signed: \(error)")
            }
        }
    }
}
