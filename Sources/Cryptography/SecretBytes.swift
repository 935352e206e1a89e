import Glibc

/// Bytes that nobody else shall see: kept out of core dumps and swap, and wiped when the last owner goes.
///
/// `memfd`, logs and arguments never get them; ``withBytes(_:)`` lends them for a call.
public final class SecretBytes: @unchecked Sendable {
    private let storage: UnsafeMutableRawBufferPointer
    private let mapped: Int
    public var count: Int { storage.count }

    /// - Parameter fill: is handed zeros to write into.
    public init<E: Error>(count: Int, _ fill: (UnsafeMutableRawBufferPointer) throws(E) -> Void) throws(E) {
        let page = Int(sysconf(CInt(_SC_PAGESIZE)))
        mapped = max(1, (count + page - 1) / page) * page
        // Whoever cannot have a page has no use for a key either.
        guard let base = mmap(nil, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), base != MAP_FAILED else {
            fatalError("no memory for a key: \(String(cString: strerror(errno)))")
        }
        madvise(base, mapped, 16)  // MADV_DONTDUMP
        // A small limit on locked memory is no reason to fail: core dumps are off, and swap is the administrator's matter.
        mlock(base, mapped)
        storage = UnsafeMutableRawBufferPointer(start: base, count: count)
        try fill(storage)
    }

    /// Takes a copy, and wipes the original.
    public convenience init(taking bytes: inout [UInt8]) {
        self.init(count: bytes.count) { target in bytes.withUnsafeBytes { target.copyMemory(from: $0) } }
        bytes.withUnsafeMutableBytes { Self.wipe($0) }
        bytes = []
    }

    public convenience init(_ text: String) {
        var bytes = Array(text.utf8)
        self.init(taking: &bytes)
    }

    deinit {
        Self.wipe(storage)
        munmap(storage.baseAddress, mapped)
    }

    /// Overwrites bytes in a way that no compiler leaves out.
    public static func wipe(_ bytes: UnsafeMutableRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        explicit_bzero(base, bytes.count)
    }

    public func withBytes<T, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> T) throws(E) -> T {
        try body(UnsafeRawBufferPointer(storage))
    }

    /// A part, as a secret of its own.
    public func part(_ range: Range<Int>) -> SecretBytes {
        SecretBytes(count: range.count) { target in
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[range]))
        }
    }

    /// Bytes of the kernel's generator (getrandom(2)).
    /// - Throws: where the kernel has none to give; nothing is ever made up.
    public static func random(count: Int) throws(CryptographyError) -> SecretBytes {
        try SecretBytes(count: count) { target throws(CryptographyError) in try RandomBytes.fill(target) }
    }
}

/// Numbers that nobody can guess (getentropy(3)).
public enum RandomBytes {
    /// Bytes that the system gives in one call.
    private static let most = 256

    public static func fill(_ target: UnsafeMutableRawBufferPointer) throws(CryptographyError) {
        var rest = target[...]
        while !rest.isEmpty {
            let piece = UnsafeMutableRawBufferPointer(rebasing: rest.prefix(most))
            guard let base = piece.baseAddress, getentropy(base, piece.count) == 0 else {
                throw .library("the kernel gives no random numbers: \(String(cString: strerror(errno)))")
            }
            rest = rest.dropFirst(most)
        }
    }

    public static func make(_ count: Int) throws(CryptographyError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        try fill(&bytes)
        return bytes
    }

    private static func fill(_ bytes: inout [UInt8]) throws(CryptographyError) {
        var failure: CryptographyError?
        bytes.withUnsafeMutableBytes { target in
            do throws(CryptographyError) { try fill(target) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}
