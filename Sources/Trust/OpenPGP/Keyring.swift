import Glibc
import Linux
import Cryptography

/// Keyring files as the peers keep them: transferable keys, binary, one behind the other.
public struct Keyring: Sendable {
    /// The directory of the user's keyrings.
    public let folder: String
    /// The administrator's file of public keys.
    public let global: String

    public var publicFile: String { folder + "/pgp-public" }
    public var secretFile: String { folder + "/pgp-secret" }

    public init(folder: String, global: String) {
        (self.folder, self.global) = (folder, global)
    }

    /// Bytes of a keyring at the most.
    private static let largest = 64 << 20

    /// Makes the directory, and closes it to others where it is open.
    /// - Returns: what was wrong with it, for a warning.
    /// - Throws: for one of somebody else.
    @discardableResult
    public func prepare() throws(TrustError) -> String? {
        do throws(SystemError) { try Files.makeDirectories(folder, mode: 0o700) } catch { throw .key("\(error)") }
        guard let status = Files.status(folder) else { throw .key("\(folder) is not there") }
        guard status.st_uid == getuid() else { throw .key("\(folder) belongs to somebody else, who could change your keys") }
        var warning: String?
        if status.st_mode & 0o077 != 0 {
            chmod(folder, 0o700)
            warning = "\(folder) was open to others; it has the mode 0700 now"
        }
        return warning
    }

    /// Loads the administrator's public keys.
    public func loadGlobal(into keys: OpenPGPKeys) throws(TrustError) {
        try keys.load(try Self.read(global), from: .global, name: global)
    }

    /// Loads the user's public keys.
    public func loadLocal(into keys: OpenPGPKeys) throws(TrustError) {
        try keys.load(try Self.read(publicFile), from: .local, name: publicFile)
    }

    /// A key as it stands in a keyring.
    struct Entry {
        let key: KeyPackets.Key
        let file: String
        let place: OpenPGPKey.Place

        /// - Parameter hasSubkeys: also its subkeys; the library takes a millisecond to check each.
        func load(hasSubkeys: Bool, into keys: OpenPGPKeys) throws(TrustError) {
            try keys.load(Array(hasSubkeys ? key.packets : key.primary), from: place, name: file)
        }
    }

    /// Where a public key stands, in the administrator's keyring and the user's.
    func entries(_ fingerprint: String) throws(TrustError) -> [Entry] {
        var found: [Entry] = []
        for (file, place) in [(global, OpenPGPKey.Place.global), (publicFile, .local)] {
            do {
                for key in try KeyPackets(try Self.read(file)).keys where key.fingerprint == fingerprint {
                    found.append(Entry(key: key, file: file, place: place))
                }
            } catch let error as TrustError { throw error } catch { throw .key("\(file): \(error)") }
        }
        return found
    }

    public func loadSecret(into keys: OpenPGPKeys) throws(TrustError) {
        try keys.load(try Self.read(secretFile), from: .local, name: secretFile)
    }

    /// - Returns: nothing where there is no such file.
    private static func read(_ path: String) throws(TrustError) -> [UInt8] {
        do throws(SystemError) { return try Files.read(path, limit: largest) } catch {
            if error.errno == ENOENT { return [] }
            throw .key("\(error)")
        }
    }

    /// Adds keys to a file. The file is replaced as a whole, by one process at a time.
    public func append(_ packets: [UInt8], to file: String) throws(TrustError) {
        try change(file) { old in old + packets }
    }

    /// Takes a key out of a file, or puts other packets in its place. What else is there stays as it is, also where nothing here
    /// can read it.
    /// - Returns: whether the key was there.
    public func replace(_ fingerprint: String, in file: String, with packets: [UInt8]) throws(TrustError) -> Bool {
        var isThere = false
        try change(file) { old in
            // What cannot be cut into keys is not touched.
            guard let keys = try? KeyPackets(old).keys, keys.reduce(0, { $0 + $1.packets.count }) == old.count else { return old }
            return keys.flatMap { key in
                guard key.fingerprint == fingerprint else { return Array(key.packets) }
                isThere = true
                return packets
            }
        }
        return isThere
    }

    private func change(_ file: String, _ body: ([UInt8]) -> [UInt8]) throws(TrustError) {
        let isGlobal = file == global
        if !isGlobal { try prepare() }
        do throws(SystemError) {
            let lock = try OwnedDescriptor.open(file + ".lock", O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o600)
            let raw = lock.rawValue
            guard retryingOnInterrupt({ flock(raw, LOCK_EX) }) == 0 else { throw SystemError.last("lock \(file)") }
            let old = Files.status(file) == nil ? [] : try Files.read(file, limit: Self.largest)
            try Files.replace(file, with: body(old), mode: isGlobal ? 0o644 : 0o600)
        } catch { throw .key("\(error)") }
    }
}
