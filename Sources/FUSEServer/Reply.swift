import CLinux
import Glibc

/// Sends answers to the kernel.
struct Reply {
    let device: CInt
    let unique: UInt64

    /// - Parameter code: an errno value, 0 for success.
    func error(_ code: CInt) {
        var header = fuse_out_header(len: UInt32(MemoryLayout<fuse_out_header>.size), error: -code, unique: unique)
        _ = withUnsafeBytes(of: &header) { write(device, $0.baseAddress, $0.count) }
    }

    func send<T: BitwiseCopyable>(_ value: T) {
        var value = value
        withUnsafeBytes(of: &value) { send($0) }
    }

    func send(_ bytes: UnsafeRawBufferPointer) {
        var header = fuse_out_header(
            len: UInt32(MemoryLayout<fuse_out_header>.size + bytes.count), error: 0, unique: unique)
        withUnsafeMutableBytes(of: &header) { head in
            var parts = (
                iovec(iov_base: head.baseAddress, iov_len: head.count),
                iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
            )
            // The kernel drops answers to requests that were interrupted: ENOENT is nothing to act on.
            _ = withUnsafePointer(to: &parts) {
                $0.withMemoryRebound(to: iovec.self, capacity: 2) { writev(device, $0, 2) }
            }
        }
    }
}

/// Tells the kernel something that it has not asked for (linux/fuse.h, `enum fuse_notify_code`).
struct Notification {
    let device: CInt

    /// - Returns: false where the kernel has no use for it.
    @discardableResult
    func send<T: BitwiseCopyable>(_ code: fuse_notify_code, _ value: T, _ bytes: UnsafeRawBufferPointer) -> Bool {
        var value = value
        let size = MemoryLayout<fuse_out_header>.size + MemoryLayout<T>.size + bytes.count
        // A message without a number of a request.
        var header = fuse_out_header(len: UInt32(size), error: CInt(code.rawValue), unique: 0)
        return withUnsafeMutableBytes(of: &header) { head in
            withUnsafeMutableBytes(of: &value) { value in
                let parts = [
                    iovec(iov_base: head.baseAddress, iov_len: head.count), iovec(iov_base: value.baseAddress, iov_len: value.count),
                    iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count),
                ]
                return writev(device, parts, CInt(parts.count)) == size
            }
        }
    }
}
