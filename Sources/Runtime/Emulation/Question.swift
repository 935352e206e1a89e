import CLinux
import Glibc
import Linux

/// One system call that a process waits in until it is answered (seccomp_unotify(2)).
struct Question {
    let listener: CInt
    let request: clinux_request

    var pid: pid_t { request.pid }

    /// An argument as the kernel reads it: the lower half.
    func int(_ index: Int) -> CInt { CInt(truncatingIfNeeded: address(index)) }
    func id(_ index: Int) -> UInt32 { UInt32(truncatingIfNeeded: address(index)) }
    func address(_ index: Int) -> UInt64 {
        withUnsafeBytes(of: request.arguments) { $0.load(fromByteOffset: index * 8, as: UInt64.self) }
    }

    // MARK: Answers. A process that has died meanwhile needs none.

    func answer(_ value: Int64 = 0) { _ = clinux_notify_answer(listener, request.id, value, 0) }
    func fail(_ code: CInt) { _ = clinux_notify_answer(listener, request.id, 0, code) }
    func finish(_ code: CInt) { if code == 0 { answer() } else { fail(code) } }
    /// Lets the kernel do the call.
    func pass() { _ = clinux_notify_continue(listener, request.id) }

    func answer(descriptor: CInt, closeOnExec: Bool) {
        if clinux_notify_answer_descriptor(listener, request.id, descriptor, closeOnExec ? 1 : 0) < 0 { fail(errno) }
    }

    // MARK: The process's memory

    /// Fills a buffer with a text that ends with a NUL.
    /// - Returns: its bytes without the NUL, or nil where there is no such text.
    func readText(at address: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        let count = clinux_read_memory(pid, address, buffer.baseAddress, UInt64(buffer.count))
        guard count > 0 else { return nil }
        return buffer[..<Int(count)].firstIndex(of: 0)
    }

    func write<T: BitwiseCopyable>(_ value: T, at address: UInt64) -> Bool {
        withUnsafeBytes(of: value) { clinux_write_memory(pid, address, $0.baseAddress, UInt64($0.count)) == 0 }
    }

    func write(_ bytes: UnsafeRawBufferPointer, at address: UInt64) -> Bool {
        bytes.isEmpty || clinux_write_memory(pid, address, bytes.baseAddress, UInt64(bytes.count)) == 0
    }
}
