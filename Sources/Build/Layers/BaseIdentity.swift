import CLinux
import Glibc
import Linux

/// What identifies the content of a base image, for the keys of layers and for the record.
enum BaseIdentity {
    case known(String)
    /// A file is being hashed, which takes a second for two gigabytes.
    case hashed(FileHashing)

    /// Waits for it.
    var text: String {
        get throws {
            switch self {
            case .known(let text): text
            case .hashed(let hashing): "sha256:\(try hashing.digest)"
            }
        }
    }

    /// Nobody has to wait.
    var isKnown: Bool {
        switch self {
        case .known: true
        case .hashed(let hashing): hashing.isDone
        }
    }

    /// It is not needed any more.
    func end() {
        if case .hashed(let hashing) = self { hashing.end() }
    }
}

/// A process that hashes a file while the build goes on.
///
/// Every process of the build may ask for the digest: it is in a file without a name that all have open, and complete when the last
/// end of a pipe is closed.
final class FileHashing {
    private let path: String
    private let result: OwnedDescriptor
    private let ended: OwnedDescriptor
    /// nil when it has been waited for.
    private var process: pid_t?
    private let lease: Lease

    /// Starts it. Only for a process with one thread, with which it ends.
    /// - Parameter lease: of the file, from `digests`.
    init(_ path: String, _ digests: FileDigests, _ lease: Lease) throws {
        self.path = path
        self.lease = lease
        result = OwnedDescriptor(clinux_memfd("digest"))
        guard result.rawValue >= 0 else { throw SystemError.last("create a file in memory") }
        var ends: [CInt] = [0, 0]
        guard clinux_pipe(&ends) == 0 else { throw SystemError.last("pipe") }
        ended = OwnedDescriptor(ends[0])
        let target = result.rawValue
        let child = try Process.forkBound()
        if child == 0 {
            Interruption.end()
            if let digest = try? digests.digest(of: path, lease) { try? Files.writeAll(Array(digest.utf8), to: target, name: "digest") }
            _exit(0)
        }
        process = child
        close(ends[1])
    }

    /// Stops it. Only for the process that has started it.
    func end() {
        guard let child = process else { return }
        process = nil
        kill(child, SIGKILL)
        Process.wait(for: child)
        lease.release()
    }

    var isDone: Bool {
        var watched = pollfd(fd: ended.rawValue, events: Int16(POLLIN), revents: 0)
        return poll(&watched, 1, 0) > 0
    }

    /// Waits for it.
    /// - Throws: ``BuildError/badSource(_:why:)`` where the file could not be read.
    var digest: String {
        get throws {
            var byte: UInt8 = 0
            let (end, file) = (ended.rawValue, result.rawValue)
            _ = retryingOnInterrupt { read(end, &byte, 1) }
            var text = [UInt8](repeating: 0, count: 64)
            guard retryingOnInterrupt({ pread(file, &text, 64, 0) }) == 64 else {
                throw BuildError.badSource(path, why: "it cannot be read to its end")
            }
            return String(decoding: text, as: UTF8.self)
        }
    }
}
