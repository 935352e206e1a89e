/// Bytes of addresses and forms that stand for themselves, and the others (RFC 3986, section 2.1).
public enum PercentEncoding {
    /// - Parameter kept: characters beside letters, digits and `-._~` that stay as they are.
    public static func encoded(_ text: String, keeping kept: String = "") -> String {
        let plain = Set("-._~\(kept)".utf8)
        var out = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
                out.unicodeScalars.append(Unicode.Scalar(byte))
            case _ where plain.contains(byte): out.unicodeScalars.append(Unicode.Scalar(byte))
            default: out += "%" + Hexadecimal.text([byte], upperCase: true)
            }
        }
        return out
    }

    /// What is no code of a byte stays as it is.
    public static func decoded(_ text: String) -> [UInt8] {
        var out: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            if byte == UInt8(ascii: "%"), let value = Hexadecimal.bytes(digits), value.count == 1 {
                out += value
                rest = rest.dropFirst(2)
            } else {
                out.append(byte)
            }
        }
        return out
    }
}
