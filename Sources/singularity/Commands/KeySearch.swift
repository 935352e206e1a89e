import Registry
import SIF

/// What `key search` prints.
enum KeySearch {
    static func text(_ entries: [KeyServerEntry], isLong: Bool, now: Int64) -> String {
        var out = "Showing \(entries.count) results\n\n"
        func padded(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(1, width - text.count)) }
        if isLong {
            out +=
                padded("FINGERPRINT", 42) + padded("ALGORITHM", 11) + padded("BITS", 6) + padded("CREATION DATE", 31)
                + padded("EXPIRATION DATE", 31) + padded("STATUS", 11) + "NAME/EMAIL\n"
            for entry in entries {
                out +=
                    padded(entry.key, 42) + padded(algorithm(entry.algorithm), 11) + padded("\(entry.bits)", 6)
                    + padded(entry.created.map(Listing.time) ?? "", 31) + padded(entry.expires.map(Listing.time) ?? "", 31)
                    + padded(status(entry, now), 11) + names(entry, 42 + 11 + 6 + 31 + 31 + 11)
            }
        } else {
            out += padded("KEY ID", 10) + padded("BITS", 6) + "NAME/EMAIL\n"
            for entry in entries { out += padded(String(entry.key.suffix(8)), 10) + padded("\(entry.bits)", 6) + names(entry, 16) }
        }
        return out
    }

    private static func names(_ entry: KeyServerEntry, _ column: Int) -> String {
        guard !entry.userIDs.isEmpty else { return "\n" }
        return entry.userIDs.joined(separator: "\n" + String(repeating: " ", count: column)) + "\n"
    }

    /// Names of RFC 4880, section 9.1, and RFC 6637.
    private static func algorithm(_ number: Int) -> String {
        switch number {
        case 1...3: "RSA"
        case 16: "Elgamal"
        case 17: "DSA"
        case 18: "ECDH"
        case 19: "ECDSA"
        case 22: "EdDSA"
        default: "unknown"
        }
    }

    private static func status(_ entry: KeyServerEntry, _ now: Int64) -> String {
        if entry.flags.contains("r") { return "[revoked]" }
        if entry.flags.contains("d") { return "[disabled]" }
        if entry.flags.contains("e") || entry.expires.map({ $0 < now }) ?? false { return "[expired]" }
        return "[enabled]"
    }
}
