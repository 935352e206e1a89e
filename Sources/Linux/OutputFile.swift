import Glibc

/// A file that gets its name only when it is complete: until then nobody sees it, and nothing is left if we are killed.
public final class OutputFile {
    public let path: String
    public let descriptor: CInt
    /// The name that it has until it is complete; nil where the file system can do without one (O_TMPFILE).
    private var temporary: String?
    private let mode: mode_t

    /// - Parameter mode: permission bits before the umask.
    public init(_ path: String, mode: mode_t) throws(SystemError) {
        self.path = path
        let mask = umask(0)
        umask(mask)
        self.mode = mode & ~mask
        let raw = Self.openUnnamed(beside: path, mode: mode)
        if raw >= 0 {
            descriptor = raw
            return
        }
        guard errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL else { throw .last("create \(path)") }
        let name = Self.temporaryName(path)
        descriptor = try OwnedDescriptor.open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode).release()
        temporary = name
    }

    deinit {
        if let temporary { unlink(temporary) }
        close(descriptor)
    }

    /// O_TMPFILE, see open(2).
    private static func openUnnamed(beside path: String, mode: mode_t) -> CInt {
        let slash = path.lastIndex(of: "/")
        let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let anonymous: CInt = 0o20200000
        return open(folder, O_RDWR | anonymous | O_CLOEXEC, mode)
    }

    /// A file for its owner alone in the directory of another, where there is room for it, that never has a name: what is in it goes
    /// with the process.
    public static func unnamed(beside path: String) throws(SystemError) -> OwnedDescriptor {
        let raw = openUnnamed(beside: path, mode: 0o600)
        if raw >= 0 { return OwnedDescriptor(raw) }
        let name = temporaryName(path)
        let file = try OwnedDescriptor.open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        unlink(name)
        return file
    }

    private static func temporaryName(_ path: String) -> String { "\(path).\(getpid()).\(UInt32.random(in: 0 ... .max)).part" }

    /// Flushes the file to disk and gives it its name, in the place of an older file of that name.
    public func commit() throws(SystemError) {
        guard fsync(descriptor) == 0 else { throw .last("write \(path)") }
        if temporary == nil {
            // linkat(2) does not replace a file, so the name comes by way of another one.
            let name = Self.temporaryName(path)
            guard linkat(AT_FDCWD, "/proc/self/fd/\(descriptor)", AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0 else {
                throw .last("create \(path)")
            }
            temporary = name
        }
        guard let name = temporary, rename(name, path) == 0 else { throw .last("rename to \(path)") }
        temporary = nil
    }
}
