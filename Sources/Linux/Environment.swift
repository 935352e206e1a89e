import CLinux
import Glibc

/// The variables of this process.
public enum Environment {
    /// All variables; of a name that is there twice, the first counts, as in getenv(3).
    public static var all: [String: String] {
        var out: [String: String] = [:]
        for (name, value) in pairs where out[name] == nil { out[name] = value }
        return out
    }

    /// Names and values in their order.
    public static var pairs: [(name: String, value: String)] {
        var out: [(name: String, value: String)] = []
        var pointer = clinux_environ()
        while let entry = pointer?.pointee {
            let text = RawText.string(entry)
            if let equals = text.firstIndex(of: "=") {
                out.append((String(text[..<equals]), String(text[text.index(after: equals)...])))
            }
            pointer = pointer?.advanced(by: 1)
        }
        return out
    }

    /// One variable, nil where it is not set.
    public static subscript(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    /// A setting of the program: `SINGULARITY_X` or `APPTAINER_X`, the latter first; an empty one counts as not set.
    public static func setting(_ name: String) -> String? {
        for prefix in ["APPTAINER_", "SINGULARITY_"] {
            if let value = self[prefix + name], !value.isEmpty { return value }
        }
        return nil
    }
}
