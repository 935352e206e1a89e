import BlockIO
import Registry

/// Passes bytes on and checks at their end that they are what a digest says.
final class VerifiedStream: ByteStream {
    private let input: any ByteStream
    private let digest: Digest
    private let name: String
    private var hash: StreamHash
    private var isChecked = false

    init(_ input: any ByteStream, digest: Digest, name: String) {
        self.input = input
        self.digest = digest
        self.name = name
        hash = StreamHash(digest.algorithm)
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        let count = try input.read(into: buffer)
        if count > 0 {
            hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        } else if !isChecked {
            isChecked = true
            let found = hash.finish()
            guard found == digest.description else {
                throw RegistryError.digestMismatch(what: name, expected: "\(digest)", found: found)
            }
        }
        return count
    }
}
