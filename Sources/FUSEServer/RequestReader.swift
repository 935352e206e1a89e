import Glibc
import Linux

/// Takes requests from the kernel, and looks for the next one for a moment before it sleeps.
///
/// A program that opens a thousand files asks again microseconds after each answer. Waking a sleeping server costs it more
/// than the answer. The moment is short, and is left out as long as nothing comes in it, so that a busy node loses little by
/// it; a machine with one processor has nothing to gain.
struct RequestReader {
    private let device: CInt
    /// Moments in a row in which nothing came.
    private var misses = 0

    /// Nanoseconds of looking.
    private static let moment: UInt64 = 20_000
    /// Nanoseconds from an answer to the next request, sleep and waking included, that make looking worthwhile again.
    private static let soon: UInt64 = 60_000
    private static let mostMisses = 3

    /// - Parameter mayLook: there is more than one processor. To be found out before there are threads: in a forked process,
    ///   Swift's lazy constants lock up where two threads want one first.
    init(_ device: CInt, mayLook: Bool) {
        self.device = device
        if mayLook { _ = fcntl(device, F_SETFL, O_RDWR | O_NONBLOCK) }
    }

    /// Takes the next request.
    /// - Returns: its bytes; -1 where there will be none any more.
    mutating func next(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
        var asked: UInt64 = 0
        while true {
            let count = read(device, buffer.baseAddress, buffer.count)
            if count >= 0 {
                if asked > 0, MonotonicClock.nanoseconds - asked < Self.soon { misses = 0 }
                return count
            }
            switch errno {
            case EINTR, ENOENT: continue
            case EAGAIN: break
            default: return -1
            }
            if asked == 0 { asked = MonotonicClock.nanoseconds }
            if misses < Self.mostMisses {
                if MonotonicClock.nanoseconds - asked < Self.moment { continue }
                misses += 1
            }
            var wait = pollfd(fd: device, events: Int16(POLLIN), revents: 0)
            poll(&wait, 1, -1)
        }
    }
}
