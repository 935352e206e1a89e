import Linux

/// Which images may run: lines of a file, the first one whose place fits decides.
///
///     # place                     what must be true
///     images /opt/images          signed by any of 9C3C1B1B23E755F72A55254249523201BBE9E817, /etc/singularity/site.pem
///     images /scratch             signed by anyone known
///     images /home/ada/tests      unsigned allowed
///     images *                    refused
public struct VerificationPolicy: Sendable {
    /// One line.
    public struct Line: Sendable {
        /// A directory, below which it counts; nil for everywhere.
        var place: String?
        /// Images in the directory itself only, as the peers' lists count.
        var isExact = false
        var rule: SignatureRule
        /// Signatures that cover the data alone are enough.
        var allowsLegacy = false
    }

    var lines: [Line]

    /// Of what a user gives with `--verify`, or an administrator in the configuration.
    /// - Parameter text: empty or `yes` for any known key; a fingerprint; a PEM file; a policy; or a list of the peers (`.toml`).
    public init(request text: String) throws(TrustError) {
        if text.isEmpty || text == "yes" || text == "true" {
            lines = [Line(rule: .anyKnown)]
            return
        }
        if let digits = OpenPGPKey.identifier(text) {
            lines = [Line(rule: .anyOf([.openPGP(digits)]))]
            return
        }
        let content: String
        do throws(SystemError) { content = try Files.readText(text, limit: 1 << 20) } catch {
            throw .policy(
                "--verify \(text): it is neither a fingerprint nor a file that can be read (\(error.reason.lowercased())); nothing is run")
        }
        if content.contains("-----BEGIN ") {
            lines = [Line(rule: .anyOf([try TrustedSigner(text)]))]
        } else if text.hasSuffix(".toml") {
            lines = try ExecutionControlList.lines(content, path: text)
        } else {
            self = try VerificationPolicy(parsing: content, path: text)
        }
    }

    /// All of these keys must have signed an image.
    public init(signedByAllOf signers: [TrustedSigner]) { lines = [Line(rule: .allOf(signers))] }

    /// Reads a policy.
    /// - Throws: ``TrustError/policy(_:)`` that names the line.
    public init(parsing content: String, path: String) throws(TrustError) {
        lines = []
        for (number, raw) in content.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = raw.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace).map(String.init)
            if words.isEmpty { continue }
            do throws(TrustError) { lines.append(try Self.line(words)) } catch { throw .policy("\(path), line \(number + 1): \(error)") }
        }
    }

    private static let form =
        "write `images DIRECTORY|* signed by [any of|all of] KEY, KEY`, `signed by anyone known`, `not signed by KEY`, `unsigned allowed` or `refused`"

    private static func line(_ words: [String]) throws(TrustError) -> Line {
        guard words.count >= 3, words[0] == "images", words[1] == "*" || words[1].hasPrefix("/") else { throw .policy(form) }
        var line = Line(place: words[1] == "*" ? nil : words[1], rule: .refused)
        let rest = Array(words[2...])
        func signers(_ count: Int) throws(TrustError) -> [TrustedSigner] {
            let names = rest.dropFirst(count).joined(separator: " ").split(separator: ",").map { $0.filter { !$0.isWhitespace } }
            guard !names.isEmpty, !names.contains("") else { throw .policy("a key is missing; " + form) }
            var found: [TrustedSigner] = []
            for name in names { found.append(try TrustedSigner(name)) }
            return found
        }
        if rest == ["refused"] { return line }
        if rest == ["unsigned", "allowed"] {
            line.rule = .unsignedAllowed
        } else if rest == ["signed", "by", "anyone", "known"] {
            line.rule = .anyKnown
        } else if rest.starts(with: ["signed", "by", "any", "of"]) {
            line.rule = .anyOf(try signers(4))
        } else if rest.starts(with: ["signed", "by", "all", "of"]) {
            line.rule = .allOf(try signers(4))
        } else if rest.starts(with: ["signed", "by"]) {
            line.rule = .anyOf(try signers(2))
        } else if rest.starts(with: ["not", "signed", "by"]) {
            line.rule = .noneOf(try signers(3))
        } else {
            throw .policy("\"\(rest.joined(separator: " "))\" is not understood; " + form)
        }
        return line
    }

    /// The line for an image. Names are compared, not text: `/scratch` says nothing of `/scratch2`.
    /// - Parameter path: of the open file, without links.
    func line(for path: String) -> Line? {
        let folder = path.split(separator: "/").dropLast()
        return lines.first { line in
            guard let place = line.place else { return true }
            let wanted = (Files.resolved(place) ?? place).split(separator: "/")
            return line.isExact ? folder.elementsEqual(wanted) : folder.starts(with: wanted)
        }
    }
}
