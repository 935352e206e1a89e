import FoundationEssentials

/// A label of an image, found without reading all labels where there is none of the name: that is on the way of every start.
enum LabelText {
    static func value(of name: String, in labels: [UInt8]) -> String? {
        guard labels.firstRange(of: name) else { return nil }
        let all = try? JSONDecoder().decode([String: String].self, from: Data(labels))
        return all?[name]
    }
}

extension [UInt8] {
    /// Whether the bytes of a text are in it.
    fileprivate func firstRange(of text: String) -> Bool {
        let wanted = Array(text.utf8)
        guard count >= wanted.count else { return false }
        return (0...count - wanted.count).contains { self[$0] == wanted[0] && self[$0..<$0 + wanted.count].elementsEqual(wanted) }
    }
}
