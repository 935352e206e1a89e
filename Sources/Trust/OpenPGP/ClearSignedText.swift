import FoundationEssentials

/// A text with its OpenPGP signature behind it (RFC 4880, section 7), taken apart strictly: what is verified is what is read.
package struct ClearSignedText {
    static let start = Array("-----BEGIN PGP SIGNED MESSAGE-----".utf8)

    /// The text that is signed, with line feeds between its lines and none at the end.
    package let text: [UInt8]
    /// The signature packets.
    package let signature: [UInt8]

    /// - Returns: nil where the bytes are no such message.
    package init?(parsing bytes: [UInt8]) {
        var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { line in
            line.last == UInt8(ascii: "\r") ? line.dropLast() : line
        }[...]
        guard lines.popFirst().map(Array.init) == Self.start else { return nil }
        // Only the hash may be named here; anything else could be taken for part of the text by a reader.
        while let line = lines.popFirst(), !line.isEmpty {
            guard line.starts(with: Array("Hash: ".utf8)) else { return nil }
        }
        var text: [ArraySlice<UInt8>] = []
        let separator = Array("-----BEGIN PGP SIGNATURE-----".utf8)
        while true {
            guard var line = lines.popFirst() else { return nil }
            if Array(line) == separator { break }
            if line.starts(with: Array("- ".utf8)) { line = line.dropFirst(2) } else if line.first == UInt8(ascii: "-") { return nil }
            while let last = line.last, last == UInt8(ascii: " ") || last == UInt8(ascii: "\t") { line = line.dropLast() }
            text.append(line)
        }
        guard let signature = Self.armored(&lines), lines.allSatisfy(\.isEmpty) else { return nil }
        self.text = Array(text.joined(separator: [UInt8(ascii: "\n")]))
        self.signature = signature
    }

    /// The bytes of an armor whose first line has been read, and its last line (RFC 4880, section 6.2). A checksum is passed
    /// over: the signature proves more.
    private static func armored(_ lines: inout ArraySlice<ArraySlice<UInt8>>) -> [UInt8]? {
        while let line = lines.popFirst(), !line.isEmpty {
            guard line.contains(UInt8(ascii: ":")) else { return nil }
        }
        var digits: [UInt8] = []
        while let line = lines.popFirst() {
            if Array(line) == Array("-----END PGP SIGNATURE-----".utf8) { return Data(base64Encoded: Data(digits)).map(Array.init) }
            if line.first != UInt8(ascii: "=") { digits += line }
        }
        return nil
    }
}
