import Glibc

/// A file that says who is making something, for processes on one or several hosts that share a directory.
///
/// It needs only what any file system has, NFS included: creation that fails where the file is there (O_EXCL), rename,
/// and times. The holder renews the file's time; a holder that is dead on this host, or has not renewed for a minute,
/// loses it.
public final class Lease: Sendable {
    private let path: String
    private let content: String

    /// Seconds without renewal after which another host's lease has ended.
    static let term = 60

    /// Takes the lease, nil where somebody alive holds it.
    /// - Throws: where the directory cannot be written.
    public static func take(_ path: String) throws(SystemError) -> Lease? {
        let content = "\(hostName) \(getpid()) \(ProcessStart.time(of: getpid()) ?? 0) \(UInt64.random(in: 0 ... .max))\n"
        for _ in 0..<3 {
            let raw = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            if raw >= 0 {
                let file = OwnedDescriptor(raw)
                do throws(SystemError) {
                    try Files.writeAll(Array(content.utf8), to: file.rawValue, name: path)
                } catch {
                    unlink(path)
                    throw error
                }
                return Lease(path: path, content: content)
            }
            guard errno == EEXIST else { throw .last("create \(path)") }
            guard let stale = staleContent(path) else { return nil }
            remove(path, ifContentIs: stale)
        }
        return nil
    }

    private init(path: String, content: String) {
        self.path = path
        self.content = content
    }

    /// Says that the holder is alive.
    public func renew() { utimes(path, nil) }

    /// Gives it back.
    public func release() { if (try? Files.readText(path)) == content { unlink(path) } }

    /// Makes something that is not there yet: of several processes that want it one makes it, the others wait.
    /// - Parameters:
    ///   - path: of the lease.
    ///   - isThere: asked before and after each wait.
    ///   - make: gets the lease, to renew it while it works.
    /// - Returns: whether this process has made it.
    public static func makeOnce(_ path: String, isThere: () -> Bool, make: (Lease) throws -> Void) throws -> Bool {
        while !isThere() {
            guard let lease = try take(path) else {
                usleep(50_000)
                continue
            }
            defer { lease.release() }
            // It may have come between the two looks.
            if isThere() { return false }
            try make(lease)
            return true
        }
        return false
    }

    /// What a lease says whose holder is gone, nil where it may be alive.
    private static func staleContent(_ path: String) -> String? {
        guard let text = try? Files.readText(path), let status = Files.status(path) else { return nil }
        let words = text.split(separator: " ")
        if words.count >= 3, words[0] == hostName, let pid = pid_t(words[1]), let started = UInt64(words[2]) {
            return ProcessStart.time(of: pid) == started ? nil : text
        }
        // A lease without content is being written, or its writer died in that moment.
        let age = time(nil) - status.st_mtim.tv_sec
        return age > term ? text : nil
    }

    /// Two processes may find the same stale lease: only one of them can rename it away, and one that caught a new
    /// lease by mistake puts it back.
    private static func remove(_ path: String, ifContentIs stale: String) {
        let aside = "\(path).\(getpid()).\(UInt32.random(in: 0 ... .max))"
        guard rename(path, aside) == 0 else { return }
        if (try? Files.readText(aside)) != stale { link(aside, path) }
        unlink(aside)
    }

    private static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        gethostname(&buffer, 255)
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
