import CLinux

/// A request of the kernel, as bytes that it wrote (linux/fuse.h). Every read is bounds-checked.
struct Request {
    let header: fuse_in_header
    /// What follows the header.
    let body: UnsafeRawBufferPointer

    /// Nil for a message shorter than its header says.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= MemoryLayout<fuse_in_header>.size else { return nil }
        header = bytes.loadUnaligned(as: fuse_in_header.self)
        guard Int(header.len) <= bytes.count, Int(header.len) >= MemoryLayout<fuse_in_header>.size else { return nil }
        body = UnsafeRawBufferPointer(rebasing: bytes[MemoryLayout<fuse_in_header>.size..<Int(header.len)])
    }

    /// A structure at the start of the body.
    func load<T: BitwiseCopyable>(_ type: T.Type) -> T? {
        body.count >= MemoryLayout<T>.size ? body.loadUnaligned(as: T.self) : nil
    }

    /// The name that the body holds from `offset` on, without its NUL.
    func name(from offset: Int = 0) -> [UInt8]? {
        guard offset <= body.count else { return nil }
        let rest = body[offset...]
        guard let end = rest.firstIndex(of: 0) else { return nil }
        return [UInt8](rest[..<end])
    }
}

/// The part of fuse_init_in that all kernels send.
struct FUSEInit: BitwiseCopyable {
    var major: UInt32
    var minor: UInt32
    var max_readahead: UInt32
    var flags: UInt32
}
