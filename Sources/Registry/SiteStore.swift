import BlockIO
import Glibc
import Linux

/// Blobs that the users of a site share, in a directory to which all of them may add.
///
/// Nobody has to trust anybody: what is taken from it is hashed when it is opened, and a file that is not what its name
/// says counts as not there. The directory has the sticky bit and files are read-only, so that nobody can replace or
/// remove another's.
public struct SiteStore: Sendable {
    public let folder: String

    public init(_ folder: String) { self.folder = folder }

    private func path(_ digest: Digest) -> String { "\(folder)/blobs/\(digest.algorithm)/\(digest.hex)" }

    /// An open blob whose content has been checked, with its path; nil where there is none that is right.
    func open(_ digest: Digest, size: Int64?) -> (file: SharedDescriptor, path: String)? {
        let path = path(digest)
        // Somebody else's directory: no link is followed, and a FIFO must not be waited for.
        guard let owned = try? OwnedDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK),
            let status = try? Files.status(owned.rawValue, name: path), status.st_mode & S_IFMT == S_IFREG
        else { return nil }
        if let size, Int64(status.st_size) != size { return nil }
        let file = SharedDescriptor(owned)
        guard let source = try? FileSource(file, name: path) else { return nil }
        var hash = StreamHash(digest.algorithm)
        let stream = SourceStream(source)
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            guard let count = try? buffer.withUnsafeMutableBytes({ try stream.read(into: $0) }) else { return nil }
            if count == 0 { break }
            buffer.withUnsafeBytes { hash.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
        return hash.finish() == "\(digest)" ? (file, path) : nil
    }

    /// A small blob's bytes.
    func document(_ digest: Digest) -> [UInt8]? {
        guard let bytes = try? Files.read(path(digest), limit: ManifestDocument.largest) else { return nil }
        var hash = StreamHash(digest.algorithm)
        bytes.withUnsafeBytes { hash.update($0) }
        return hash.finish() == "\(digest)" ? bytes : nil
    }

    /// Adds a blob whose content has been checked. A store that cannot be written is no reason to fail.
    func add(_ digest: Digest, from source: String) {
        let target = path(digest)
        guard Files.status(target, followLinks: false) == nil else { return }
        makeFolder(folder)
        makeFolder(folder + "/blobs")
        makeFolder("\(folder)/blobs/\(digest.algorithm)")
        let part = "\(target).\(getpid()).\(UInt32.random(in: 0 ... .max)).part"
        guard (try? Files.copy(source, to: part, mode: 0o444)) != nil else { return }
        chmod(part, 0o444)
        // link(2) never replaces what somebody else has put there meanwhile.
        link(part, target)
        unlink(part)
    }

    /// A directory to which everybody may add, and from which everybody may remove only what is theirs.
    private func makeFolder(_ path: String) { if mkdir(path, 0o777) == 0 { chmod(path, 0o1777) } }
}
