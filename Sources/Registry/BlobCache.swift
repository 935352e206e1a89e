import Glibc
import Linux

/// Blobs by their digest in a directory that any number of processes, also on other hosts, may use at once.
///
/// A blob appears by rename(2) when it is complete and its digest has been checked, so whatever stands under a digest's
/// name is right. Who downloads a blob holds its lease (see ``Lease``); the others wait for the blob. The layout of the
/// `blobs` folder is that of an OCI image layout.
public struct BlobCache: Sendable {
    /// The cache's own folder.
    public let folder: String
    /// Keep others from cleaning up as long as this value is there.
    private let lock: FileLock?
    private let use: CacheUse?
    /// Blobs of the whole site; nil for none.
    let site: SiteStore?

    /// - Throws: ``SystemError`` where the folder cannot be made.
    public init(_ folder: String, site: SiteStore? = nil) throws(SystemError) {
        self.folder = folder
        self.site = site
        try Files.makeDirectories(folder + "/blobs/sha256", mode: 0o700)
        try Files.makeDirectories(folder + "/blobs/sha512", mode: 0o700)
        try Files.makeDirectories(folder + "/leases", mode: 0o700)
        try Files.makeDirectories(folder + "/tags", mode: 0o700)
        lock = if case .taken(let lock) = FileLock.share(folder) { lock } else { nil }
        use = CacheUse(folder)
    }

    /// Runs `body` where no process of any host uses a cache.
    /// - Returns: whether it ran.
    public static func whenUnused(_ folder: String, _ body: () -> Void) -> Bool {
        guard CacheUse.other(in: folder) == nil else { return false }
        return FileLock.whenUnused(folder, body)
    }

    /// Makes a client of a network file system forget what it believes of a blob that was not there: it may remember
    /// that for half a minute, but a directory that it changes itself is looked at anew (NFS: weak cache consistency,
    /// RFC 1813 2.6).
    func lookAnew(_ digest: Digest) {
        let probe = "\(path(digest)).\(getpid()).\(UInt32.random(in: 0 ... .max))"
        if mkdir(probe, 0o700) == 0 { rmdir(probe) }
    }

    /// Where a blob is or will be.
    public func path(_ digest: Digest) -> String { "\(folder)/blobs/\(digest.algorithm)/\(digest.hex)" }

    /// Where the bytes of a blob go while it is received; a later process goes on where an earlier one was stopped.
    func partialPath(_ digest: Digest) -> String { "\(folder)/leases/\(digest.algorithm)-\(digest.hex).partial" }

    func leasePath(_ digest: Digest) -> String { "\(folder)/leases/\(digest.algorithm)-\(digest.hex).lease" }

    /// Whether a blob is there, or in the site's store.
    public func contains(_ digest: Digest) -> Bool { Files.status(path(digest)) != nil || site?.open(digest, size: nil) != nil }

    /// A small blob's bytes, nil where it is not there. What does not match its digest is removed.
    public func document(_ digest: Digest) throws(SystemError) -> [UInt8]? {
        guard Files.status(path(digest)) != nil else { return site?.document(digest) }
        let bytes = try Files.read(path(digest), limit: ManifestDocument.largest)
        var hasher = StreamHash(digest.algorithm)
        bytes.withUnsafeBytes { hasher.update($0) }
        if hasher.finish() == digest.description { return bytes }
        unlink(path(digest))
        return nil
    }

    /// Keeps a document whose digest has been checked.
    public func store(_ bytes: [UInt8], _ digest: Digest) throws(SystemError) {
        if Files.status(path(digest)) == nil { try Files.replace(path(digest), with: bytes, mode: 0o600) }
        site?.add(digest, from: path(digest))
    }

    // MARK: Tags

    /// What a tag stood for when the registry was asked last, and how many seconds ago that was.
    public func tag(_ reference: ImageReference) -> (digest: Digest, age: Int)? {
        guard let text = try? Files.readText(tagPath(reference)), let status = Files.status(tagPath(reference)),
            let digest = Digest(text.trimmed)
        else { return nil }
        return (digest, max(0, time(nil) - status.st_mtim.tv_sec))
    }

    public func remember(_ reference: ImageReference, _ digest: Digest) {
        // Only a convenience for --offline: a cache that cannot be written is no reason to fail.
        try? Files.replace(tagPath(reference), with: Array("\(digest)\n".utf8), mode: 0o600)
    }

    private func tagPath(_ reference: ImageReference) -> String {
        let name = "\(reference.registry)/\(reference.repository):\(reference.tag)"
        return "\(folder)/tags/\(Digest(of: name.utf8).hex)"
    }
}
