import CLinux
import Glibc
import Linux

/// The path of a file as another process names it, turned into one that this process can use. Both have the same root,
/// unless the other has changed its own.
struct ProcessPath {
    /// Room for `/proc/PID/fd/N/`, or for a root directory, before the path itself.
    private static let prefixRoom = 64
    private static let longest = 4096

    /// A process has changed its root, so each one's must be looked at.
    var rootsDiffer = false
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: prefixRoom + longest, alignment: 8)

    /// Calls `body` with a path. Its NUL-terminated bytes are valid during the call only.
    /// - Parameters:
    ///   - directory: number of an open directory of the process, or AT_FDCWD.
    ///   - address: of the path in the process's memory.
    ///   - isEmptyAllowed: an empty path means the directory itself (AT_EMPTY_PATH).
    /// - Returns: what `body` returns, or an errno where there is no path.
    func with(
        _ question: Question, _ directory: CInt, _ address: UInt64, isEmptyAllowed: Bool = false, follow: Bool = true,
        _ body: (UnsafePointer<CChar>) -> CInt
    ) -> CInt {
        let text = UnsafeMutableRawBufferPointer(rebasing: buffer[Self.prefixRoom...])
        if address == 0 {
            guard isEmptyAllowed else { return EFAULT }
            text[0] = 0
        } else {
            guard question.readText(at: address, into: text) != nil else { return EFAULT }
        }
        if text[0] == UInt8(ascii: "/") {
            if rootsDiffer, let root = Files.readLink("/proc/\(question.pid)/root"), root != "/" {
                return inOtherRoot(question, text, follow: follow, body)
            }
            return call(text, body)
        }
        if text[0] == 0 {
            guard isEmptyAllowed else { return ENOENT }
            return descriptor(question, directory, body)
        }
        let prefix = directory == AT_FDCWD ? "/proc/\(question.pid)/cwd/" : "/proc/\(question.pid)/fd/\(directory)/"
        return call(prepend(prefix), body)
    }

    /// Calls `body` with a path of an open file of the process.
    func descriptor(_ question: Question, _ number: CInt, _ body: (UnsafePointer<CChar>) -> CInt) -> CInt {
        let path = number == AT_FDCWD ? "/proc/\(question.pid)/cwd" : "/proc/\(question.pid)/fd/\(number)"
        let status = path.withCString(body)
        // The process would have been told that it has no such file.
        return status == ENOENT && number != AT_FDCWD ? EBADF : status
    }

    private func prepend(_ prefix: String) -> UnsafeMutableRawBufferPointer {
        var prefix = prefix
        let start = Self.prefixRoom - prefix.utf8.count
        prefix.withUTF8 { buffer[start...].copyBytes(from: $0) }
        return UnsafeMutableRawBufferPointer(rebasing: buffer[start...])
    }

    private func call(_ text: UnsafeMutableRawBufferPointer, _ body: (UnsafePointer<CChar>) -> CInt) -> CInt {
        guard let base = text.baseAddress else { return EFAULT }
        return body(base.assumingMemoryBound(to: CChar.self))
    }

    /// The process has a root of its own, in which its links must be followed.
    private func inOtherRoot(
        _ question: Question, _ text: UnsafeMutableRawBufferPointer, follow: Bool, _ body: (UnsafePointer<CChar>) -> CInt
    ) -> CInt {
        let inRoot: UInt64 = 0x10
        let pathOnly: UInt64 = 0o10000000
        guard let root = try? OwnedDescriptor.open("/proc/\(question.pid)/root", O_RDONLY | O_DIRECTORY) else { return EACCES }
        var path = String(decoding: text.prefix { $0 != 0 }, as: UTF8.self)
        var flags = pathOnly | UInt64(O_CLOEXEC)
        var last = ""
        if !follow, let slash = path.lastIndex(of: "/") {
            // The last name is not to be followed, and may not be there yet.
            last = String(path[path.index(after: slash)...])
            path = slash == path.startIndex ? "/" : String(path[..<slash])
            flags |= UInt64(O_DIRECTORY)
        }
        let raw = clinux_openat2(root.rawValue, path, flags, 0, inRoot)
        guard raw >= 0 else { return errno }
        let file = OwnedDescriptor(raw)
        return "/proc/self/fd/\(file.rawValue)\(last.isEmpty ? "" : "/\(last)")".withCString(body)
    }
}
