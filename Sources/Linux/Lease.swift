import Glibc

/// A file that says who is making something, for processes on one or several hosts that share a directory.
///
/// It needs only what any file system has, NFS included: creation that fails where the file is there (O_EXCL), rename,
/// and times. The holder renews the file's time; a holder that is dead on this host, or has not renewed for a minute,
/// loses it. Whether a process is alive can only be seen from its own PID namespace: to a container with another one,
/// or to another machine of the same name, the holder is on another host.
public final class Lease: Sendable {
    private let path: String
    private let content: String

    /// Who holds a lease, as it says.
    public struct Holder: Sendable {
        public var host: String
        public var process: pid_t
        public var isOfThisHost: Bool
        public var isClosing: Bool
        public var isAlive: Bool
        public var note: String
        /// Unix seconds.
        public var since: Int64

        /// For people.
        public var text: String {
            var text = note.isEmpty ? "" : note + ", "
            text += "process \(process)" + (isOfThisHost ? "" : " on the host \(host)")
            return since > 0 ? text + " since \(CivilTime(since).rfc3339)" : text
        }
    }

    /// Seconds without renewal after which another host's lease has ended.
    public static let term = 60

    /// Takes the lease, nil where somebody alive holds it.
    /// - Parameter note: who that is, for people.
    /// - Throws: where the directory cannot be written.
    public static func take(_ path: String, note: String = "") throws(SystemError) -> Lease? {
        let process = "\(hostName) \(getpid()) \(ProcessStart.time(of: getpid()) ?? 0)"
        let identity = "\(UInt64.random(in: 0 ... .max))@\(processSpace)"
        let content = "\(process) \(identity) \(time(nil)) \(note.replacing("\n", with: " "))\n"
        for _ in 0..<10 {
            let raw = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            if raw >= 0 {
                do throws(SystemError) { try write(content, to: raw, path) } catch {
                    unlink(path)
                    throw error
                }
                return Lease(path: path, content: content)
            }
            guard errno == EEXIST else { throw .last("create \(path)") }
            guard let stale = staleContent(path) else { return nil }
            try remove(path, ifStillStale: stale)
        }
        return nil
    }

    /// Writes and closes a file: on network file systems it is closing that tells of a full disk.
    private static func write(_ content: String, to file: CInt, _ path: String) throws(SystemError) {
        do throws(SystemError) { try Files.writeAll(Array(content.utf8), to: file, name: path) } catch {
            Glibc.close(file)
            throw error
        }
        guard Glibc.close(file) == 0 || errno == EINTR else { throw .last("write \(path)") }
    }

    private init(path: String, content: String) {
        self.path = path
        self.content = content
    }

    /// Says that the holder is alive.
    public func renew() { utimes(path, nil) }

    /// Whether it has not been taken over by somebody who believed that the holder is dead.
    public var isMine: Bool {
        guard let text = try? Files.readText(path) else { return false }
        return text == content || text == Self.closing + content
    }

    /// Gives it back.
    public func release() {
        if let text = try? Files.readText(path), text == content || text == Self.closing + content { unlink(path) }
    }

    private static let closing = "closing "

    /// Says that it will be given back soon.
    public func announceEnd() {
        guard (try? Files.readText(path)) == content else { return }
        try? Files.replace(path, with: Array((Self.closing + content).utf8), mode: 0o600)
    }

    /// Who holds a lease; nil where nobody does.
    /// - Parameter term: seconds without renewal after which another host's lease has ended.
    public static func holder(_ path: String, term: Int = term) -> Holder? {
        guard var text = try? Files.readText(path), let status = Files.status(path) else { return nil }
        let isClosing = text.hasPrefix(closing)
        if isClosing { text.removeFirst(closing.count) }
        let words = text.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: false)
        guard words.count >= 3, let process = pid_t(words[1]), let started = UInt64(words[2]) else { return nil }
        let isOfThisHost = words[0] == hostName && words.count > 3 && words[3].hasSuffix("@" + processSpace)
        return Holder(
            host: String(words[0]), process: process, isOfThisHost: isOfThisHost, isClosing: isClosing,
            isAlive: isOfThisHost ? ProcessStart.time(of: process) == started : age(status, path) <= term,
            note: words.count > 5 ? words[5].trimmingNewline : "", since: words.count > 4 ? Int64(words[4]) ?? 0 : 0)
    }

    /// Seconds since a file was last touched, by the clock of the file system's host where that can be asked.
    private static func age(_ status: stat, _ path: String) -> Int {
        let probe = "\(path).\(getpid()).\(UInt32.random(in: 0 ... .max))"
        defer { unlink(probe) }
        guard let file = try? OwnedDescriptor.open(probe, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600),
            let now = try? Files.status(file.rawValue, name: probe)
        else { return time(nil) - status.st_mtim.tv_sec }
        return now.st_mtim.tv_sec - status.st_mtim.tv_sec
    }

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
        if let holder = holder(path) { return holder.isAlive ? nil : text }
        // A lease without content is being written, or its writer died in that moment.
        return age(status, path) > term ? text : nil
    }

    /// Removes a lease whose holder is gone. Of all that have found it stale, one at a time may look again and remove it, so
    /// that nobody removes what another one has taken meanwhile.
    private static func remove(_ path: String, ifStillStale stale: String) throws(SystemError) {
        let mark = path + ".ending"
        let raw = open(mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard raw >= 0 else {
            guard errno == EEXIST else { throw .last("create \(mark)") }
            // Whoever has died in that moment is in the way for a while.
            if let status = Files.status(mark, followLinks: false), age(status, mark) > term { unlink(mark) }
            usleep(1000)
            return
        }
        close(raw)
        if staleContent(path) == stale { unlink(path) }
        unlink(mark)
    }

    /// The name of this host, as leases have it.
    public static var thisHost: String { hostName }

    /// Which processes this one can see: its PID namespace, and the kernel since it was started.
    private static let processSpace: String = {
        let boot = ((try? Files.readText("/proc/sys/kernel/random/boot_id")) ?? "").prefix { $0 != "\n" }
        return "\(boot)/\(Files.status("/proc/self/ns/pid")?.st_ino ?? 0)"
    }()

    private static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        gethostname(&buffer, 255)
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension Substring {
    fileprivate var trimmingNewline: String { hasSuffix("\n") ? String(dropLast()) : String(self) }
}
