import CommandSyntax
import Glibc
import SIF
import Trust

/// Keys as the peers print them.
enum KeyListing {
    static func text(_ keys: [OpenPGPKey]) -> String {
        keys.enumerated().map { index, key in
            let number = "\(index))"
            var out = number + String(repeating: " ", count: max(1, 4 - number.count)) + "User:              \(key.name)\n"
            for name in key.userIDs.dropFirst() { out += "    User:              \(name)\n" }
            out += "    Creation time:     \(Listing.time(key.created))\n"
            if let expires = key.expires { out += "    Expiration time:   \(Listing.time(expires))\n" }
            out += "    Fingerprint:       \(key.fingerprint)\n    Length (in bits):  \(key.bits)\n"
            if key.isRevoked { out += "    Revoked:           yes\n" }
            return out + "\n"
        }.joined()
    }

    /// Asks which key shall be used.
    static func choose(_ keys: [OpenPGPKey], _ question: String) throws -> Int {
        for (index, key) in keys.enumerated() {
            print(
                "\(index)) U: \(key.name)\n   C: \(Listing.time(key.created))\n   F: \(key.fingerprint)\n   L: \(key.bits)\n   --------"
            )
        }
        fflush(nil)
        guard let answer = Terminal.ask(question), let index = Int(answer), keys.indices.contains(index) else {
            throw CommandError("index out of range; choose a number from 0 to \(keys.count - 1)")
        }
        return index
    }
}
