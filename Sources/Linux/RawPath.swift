import Glibc

/// A path as the kernel takes it: bytes, which need not be UTF-8 as a `String`'s are.
public struct RawPath: Hashable, Sendable, CustomStringConvertible {
    /// Without the NUL at the end.
    public let bytes: [UInt8]

    public init(_ text: String) { bytes = Array(text.utf8) }

    /// A path of bytes without a NUL.
    public init(bytes: [UInt8]) { self.bytes = bytes }

    /// The path of a name in this directory.
    public func appending(_ name: [UInt8]) -> RawPath { RawPath(bytes: bytes + [UInt8(ascii: "/")] + name) }

    /// Calls `body` with the path; valid during the call only.
    public func withCString<R>(_ body: (UnsafePointer<CChar>) throws -> R) rethrows -> R {
        try (bytes + [0]).withUnsafeBytes { buffer in
            // An array with at least one element has an address.
            guard let base = buffer.baseAddress else { return try "".withCString(body) }
            return try body(base.assumingMemoryBound(to: CChar.self))
        }
    }

    /// For people; bytes that are not UTF-8 are replaced.
    public var description: String { String(decoding: bytes, as: UTF8.self) }
}

extension OwnedDescriptor {
    /// Opens a file; `O_CLOEXEC` is always added.
    public static func open(_ path: RawPath, _ flags: CInt = O_RDONLY, mode: mode_t = 0) throws(SystemError) -> OwnedDescriptor {
        let raw = path.withCString { path in retryingOnInterrupt { Glibc.open(path, flags | O_CLOEXEC, mode) } }
        guard raw >= 0 else { throw .last("open \(path)") }
        return OwnedDescriptor(raw)
    }
}

extension Files {
    /// `lstat` of a path, nil where there is none.
    public static func status(_ path: RawPath) -> stat? {
        var status = stat()
        return path.withCString { lstat($0, &status) } == 0 ? status : nil
    }

    /// Names in a directory without `.` and `..`, in no order.
    public static func entries(_ path: RawPath) throws(SystemError) -> [[UInt8]] {
        guard let stream = path.withCString({ opendir($0) }) else { throw .last("open directory \(path)") }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != [0x2e] && name != [0x2e, 0x2e] { names.append(name) }
        }
        return names
    }

    /// Target of a symbolic link.
    public static func linkTarget(_ path: RawPath) throws(SystemError) -> [UInt8] {
        var buffer = [CChar](repeating: 0, count: 4097)
        let count = path.withCString { readlink($0, &buffer, 4096) }
        guard count >= 0 else { throw .last("read the link \(path)") }
        return buffer[..<count].map { UInt8(bitPattern: $0) }
    }
}
