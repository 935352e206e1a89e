import Linux

/// A line of a key server's index (HKP draft, section 5.2): a key and its user identities.
public struct KeyServerEntry: Sendable, Equatable {
    /// Hexadecimal digits, upper case: a fingerprint, or a key identifier of old servers.
    public var key: String
    /// Number of the algorithm (RFC 4880, section 9.1); 1 is RSA.
    public var algorithm: Int
    public var bits: Int
    /// Unix seconds; nil where the server does not say.
    public var created: Int64?
    public var expires: Int64?
    /// `r` revoked, `d` disabled, `e` expired.
    public var flags: String
    public var userIDs: [String] = []

    /// Reads the machine-readable form; lines that make no sense are passed over.
    static func parse(_ text: String) -> [KeyServerEntry] {
        var entries: [KeyServerEntry] = []
        for line in text.split(whereSeparator: \.isNewline) {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            func field(_ index: Int) -> String { index < fields.count ? fields[index] : "" }
            switch field(0) {
            case "pub":
                entries.append(
                    KeyServerEntry(
                        key: field(1).uppercased(), algorithm: Int(field(2)) ?? 0, bits: Int(field(3)) ?? 0, created: Int64(field(4)),
                        expires: Int64(field(5)), flags: field(6)))
            case "uid": entries.indices.last.map { entries[$0].userIDs.append(decoded(field(1))) }
            default: break
            }
        }
        return entries
    }

    /// A name that was percent-encoded.
    private static func decoded(_ text: String) -> String {
        // Names are shown on terminals: nothing in them may move the cursor.
        return String(
            String(decoding: PercentEncoding.decoded(text), as: UTF8.self).unicodeScalars.map {
                $0.value < 0x20 || $0.value == 0x7f ? "?" : Character($0)
            })
    }
}
