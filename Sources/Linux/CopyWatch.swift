import CLinux
import Glibc

/// Sees whether somebody copies a file that this process writes to, so that it can keep what the copy needs.
///
/// `singularity copy` says so by a ``FileMark``. Of other programs on this host (cp, rsync, a backup) it is known that they have
/// opened the file and not closed it again: the kernel tells so before their call returns (fanotify(7), for ordinary users since
/// Linux 5.13). What had the file open before this began is not seen.
///
/// `@unchecked Sendable`: the numbers are behind ``lock``.
public final class CopyWatch: @unchecked Sendable {
    private let file: CInt
    /// The queue of events; negative where the kernel gives none for this file.
    private let events: CInt
    private let lock = Monitor()
    /// Openings by other processes that have not ended.
    private var opened = 0
    /// How many of those are no copies, as they have not read for long.
    private var idle = 0
    /// A process has opened the file and closed it, and the kernel has told of both at once: it may have opened it again.
    private var isUnclear = false
    /// When somebody else has read, in milliseconds of the ``MonotonicClock``; only while ``wait()`` waits.
    private var lastRead = 0

    /// - Parameter file: open for writing; it must stay so.
    public init(_ file: CInt) {
        self.file = file
        events = clinux_watch_openings(file)
        // Whoever opens the file while the kernel is asked about it makes the kernel tell us by a signal that means nothing.
        _ = fcntl(file, Command.setSignal, SIGURG)
    }

    deinit { if events >= 0 { close(events) } }

    /// Whether somebody copies the file now.
    public var isBeingCopied: Bool {
        FileMark.copying.isSet(file)
            || lock.locked {
                look()
                return isUnclear || opened > idle
            }
    }

    /// Returns when nobody copies the file. Programs that have it open, but don't read it, are not waited for forever.
    public func wait() {
        guard isBeingCopied else { return }
        let begin = MonotonicClock.milliseconds
        let patience = CopyPatience(file)
        lock.locked { lastRead = begin }
        if events >= 0 { _ = clinux_watch_reads(events, file, 1) }
        defer { if events >= 0 { _ = clinux_watch_reads(events, file, 0) } }
        while isBeingCopied {
            let isMarked = FileMark.copying.isSet(file)
            let now = MonotonicClock.milliseconds
            if !isMarked {
                lock.locked {
                    if isUnclear, now - lastRead > Self.clearing { isUnclear = false }
                    if patience.isOver(since: begin, lastRead: lastRead, now: now) { (idle, isUnclear) = (opened, false) }
                }
            }
            usleep(10_000)
        }
    }

    /// Whether somebody copies the file still when its writer ends. Who has it open may be the next writer, which says that it waits.
    public var isNeededAtEnd: Bool {
        for _ in 0..<Self.looks {
            guard isBeingCopied, FileMark.copying.isSet(file) || !FileMark.waiting.isSet(file) else { return false }
            usleep(10_000)
        }
        return true
    }

    /// Hundredths of a second until the next writer has surely said so.
    private static let looks = 10

    /// Milliseconds after which one of whom it is not known whether it has the file open has surely read, if it copies.
    private static let clearing = 3000

    private enum Command {
        static let setSignal: CInt = 10
        static let setLease: CInt = 1024
    }

    /// Takes what the kernel has to tell. Only with the lock held.
    private func look() {
        guard events >= 0 else { return }
        let own = getpid()
        withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 8) { buffer in
            while true {
                let count = retryingOnInterrupt { read(events, buffer.baseAddress, buffer.count) }
                guard count > 0 else { return }
                var position = 0
                var event = clinux_file_event()
                while clinux_next_file_event(buffer.baseAddress, count, &position, &event) != 0 {
                    guard event.process != own else { continue }
                    switch (event.opened != 0, event.closed != 0) {
                    case (true, true): isUnclear = true
                    case (true, false): opened += 1
                    case (false, true): opened = max(0, opened - 1)
                    case (false, false): isUnclear = isUnclear || event.is_overflow != 0
                    }
                    if event.was_read != 0 { lastRead = MonotonicClock.milliseconds }
                }
            }
        }
        idle = min(idle, opened)
        if isUnclear || opened > idle, isOpenedByNobodyElse { (opened, idle, isUnclear) = (0, 0, false) }
    }

    /// The kernel gives this lease to none but the only one that has a file open (fcntl(2), F_WRLCK).
    private var isOpenedByNobodyElse: Bool {
        guard fcntl(file, Command.setLease, CInt(F_WRLCK)) == 0 else { return false }
        _ = fcntl(file, Command.setLease, CInt(F_UNLCK))
        return true
    }
}
