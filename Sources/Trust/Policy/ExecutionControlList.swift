import Linux
import TOMLKit

/// The peers' list of who may sign what (`ecl.toml`).
enum ExecutionControlList {
    private static let known: Set<String> = ["activated", "legacyinsecure", "execgroup"]

    /// Its groups as lines of a policy. A group with a directory goes before one without, as the peers look.
    static func lines(_ content: String, path: String) throws(TrustError) -> [VerificationPolicy.Line] {
        let table: TOMLTable
        do { table = try TOMLTable(string: content) } catch { throw .policy("\(path): \(error)") }
        if let unknown = table.keys.first(where: { !known.contains($0) }) { throw .policy("\(path): there is no key \(unknown)") }
        guard table["activated"]?.bool ?? false else {
            return [VerificationPolicy.Line(rule: .unsignedAllowed)]
        }
        let isLegacy = table["legacyinsecure"]?.bool ?? false
        var lines: [VerificationPolicy.Line] = []
        for value in table["execgroup"]?.array ?? [] {
            guard let group = value.table else { throw .policy("\(path): an execgroup is no table") }
            lines.append(try line(group, isLegacy, path))
        }
        let places = lines.compactMap(\.place)
        guard Set(places).count == places.count, lines.count - places.count <= 1 else {
            throw .policy("\(path): two execgroups have the same dirpath")
        }
        return lines.filter { $0.place != nil } + lines.filter { $0.place == nil }
    }

    private static func line(_ group: TOMLTable, _ isLegacy: Bool, _ path: String) throws(TrustError) -> VerificationPolicy.Line {
        let name = group["tagname"]?.string ?? "execgroup"
        var signers: [TrustedSigner] = []
        for value in group["keyfp"]?.array ?? [] {
            guard let digits = value.string.flatMap({ OpenPGPKey.identifier($0, lengths: [40]) }) else {
                throw .policy("\(path): \(name): keyfp holds fingerprints of 40 digits")
            }
            signers.append(.openPGP(digits))
        }
        let rule: SignatureRule
        switch group["mode"]?.string ?? "" {
        case "whitelist": rule = .anyOf(signers)
        case "whitestrict": rule = .allOf(signers)
        case "blacklist": rule = .noneOf(signers)
        case let mode: throw .policy("\(path): \(name): mode is \"\(mode)\"; there are whitelist, whitestrict and blacklist")
        }
        guard !signers.isEmpty else { throw .policy("\(path): \(name): keyfp names nobody") }
        let place = group["dirpath"]?.string ?? ""
        return VerificationPolicy.Line(
            place: place.isEmpty ? nil : place, isExact: true, rule: rule, allowsLegacy: isLegacy)
    }
}
