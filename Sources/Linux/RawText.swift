/// Text of the kernel that need not be UTF-8, as a `String` that gives back the same bytes.
///
/// A byte that is no part of valid UTF-8 becomes a character of a private-use area (U+10FF00 and the byte), and turns back
/// into the byte where the text is handed on.
public enum RawText {
    private static let base: UInt32 = 0x10_FF00

    /// The text of a C string.
    public static func string(_ pointer: UnsafePointer<CChar>) -> String {
        if let text = String(validatingCString: pointer) { return text }
        var bytes: [UInt8] = []
        var next = pointer
        while next.pointee != 0 {
            bytes.append(UInt8(bitPattern: next.pointee))
            next += 1
        }
        return string(bytes[...])
    }

    /// The text of bytes.
    public static func string(_ bytes: ArraySlice<UInt8>) -> String {
        var out = String.UnicodeScalarView()
        var rest = bytes
        while let first = rest.first {
            let length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1
            let part = rest.prefix(length)
            if part.count == length, let text = String(validating: part, as: UTF8.self) {
                out.append(contentsOf: text.unicodeScalars)
                rest = rest.dropFirst(length)
            } else {
                if let scalar = Unicode.Scalar(base + UInt32(first)) { out.append(scalar) }
                rest = rest.dropFirst()
            }
        }
        return String(out)
    }

    /// The bytes of a text, without a NUL at the end.
    public static func bytes(_ text: String) -> [UInt8] {
        var text = text
        let plain = text.withUTF8 { $0.contains(0xf4) ? nil : Array($0) }
        if let plain { return plain }
        var out: [UInt8] = []
        for scalar in text.unicodeScalars {
            if scalar.value >= base + 0x80 && scalar.value <= base + 0xff {
                out.append(UInt8(scalar.value - base))
            } else {
                out += Array(String(scalar).utf8)
            }
        }
        return out
    }

    /// A C string that the caller frees.
    public static func copy(_ text: String) -> UnsafeMutablePointer<CChar> {
        let bytes = bytes(text)
        let pointer = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
        for (index, byte) in bytes.enumerated() { pointer[index] = CChar(bitPattern: byte) }
        pointer[bytes.count] = 0
        return pointer
    }
}
