import FoundationEssentials

/// `labels.json` of a container.
enum JSONLabels {
    /// An object of texts; values of other kinds are taken as text where that can be done. Empty for anything else.
    static func parse(_ bytes: [UInt8]) -> [String: String] {
        if let labels = try? JSONDecoder().decode([String: String].self, from: Data(bytes)) { return labels }
        guard let mixed = try? JSONDecoder().decode([String: Loose].self, from: Data(bytes)) else { return [:] }
        return mixed.compactMapValues(\.text)
    }

    private struct Loose: Decodable {
        var text: String?
        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let value = try? container.decode(String.self) {
                text = value
            } else if let value = try? container.decode(Int.self) {
                text = String(value)
            } else if let value = try? container.decode(Bool.self) {
                text = String(value)
            }
        }
    }
}
