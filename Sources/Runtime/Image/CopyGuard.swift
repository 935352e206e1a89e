import CLinux
import Glibc
import Linux

/// Holds a file system of the kernel still while root's programs copy its image file.
///
/// The kernel's driver writes to all places of the file, and a copy that is made meanwhile is of no moment. So the guard is asked by
/// the kernel whenever somebody opens the file (fanotify(7)), and freezes the file system before a program of root gets it. Programs
/// that write wait until the file is closed again, its reader has ended, or has not read for long. Programs of others, which could
/// keep root's waiting, and this program itself, which reads other parts of the file, are let through.
struct CopyGuard {
    private let events: CInt
    private let loop: CInt
    /// Who has the file open to copy it, by process.
    private var readers: [pid_t: Reader] = [:]
    /// Since when, in milliseconds.
    private var frozen: (mount: FrozenMount, since: Int, patience: CopyPatience)?

    private struct Reader {
        var openings = 1
        /// Milliseconds.
        var lastRead: Int
        var hasRead = false
    }

    /// Milliseconds after which one that has not begun to read is no copy.
    private static let beginning = 3000

    /// Starts a process that guards a file until this one ends.
    /// - Returns: nil where the kernel does not let anybody guard it.
    static func start(_ file: CInt, loop: CInt) -> pid_t? {
        let events = clinux_guard_openings(file)
        guard events >= 0 else { return nil }
        defer { close(events) }
        return try? Process.fork {
            guard clinux_die_with_parent(SIGKILL) == 0 else { _exit(1) }
            Process.closeDescriptors(except: [events])
            var copyGuard = CopyGuard(events: events, loop: loop)
            while true { copyGuard.step() }
        }
    }

    private init(events: CInt, loop: CInt) {
        self.events = events
        self.loop = loop
    }

    private mutating func step() {
        var poll = pollfd(fd: events, events: Int16(POLLIN), revents: 0)
        _ = Glibc.poll(&poll, 1, readers.isEmpty ? -1 : 200)
        withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 8) { buffer in
            let count = read(events, buffer.baseAddress, buffer.count)
            guard count > 0 else { return }
            var position = 0
            var event = clinux_file_event()
            while clinux_next_file_event(buffer.baseAddress, count, &position, &event) != 0 {
                note(event)
                if event.file >= 0 { close(event.file) }
            }
        }
        forgetIdleReaders()
        if readers.isEmpty, let frozen {
            frozen.mount.thaw()
            self.frozen = nil
        }
    }

    private mutating func note(_ event: clinux_file_event) {
        let process = pid_t(event.process)
        let now = MonotonicClock.milliseconds
        if event.asks != 0 {
            if Self.mayCopy(process) {
                if frozen == nil, let mount = FrozenMount(loop: loop) { frozen = (mount, now, CopyPatience(event.file)) }
                if readers[process] != nil { readers[process]?.openings += 1 } else { readers[process] = Reader(lastRead: now) }
            }
            clinux_allow_opening(events, event.file)
        }
        if event.was_read != 0 {
            readers[process]?.lastRead = now
            readers[process]?.hasRead = true
        }
        if event.closed != 0, let reader = readers[process] {
            if reader.openings > 1 { readers[process]?.openings -= 1 } else { readers[process] = nil }
        }
    }

    private mutating func forgetIdleReaders() {
        let now = MonotonicClock.milliseconds
        for (process, var reader) in readers {
            if now - reader.lastRead > Self.beginning, Self.isInCopyCall(process) {
                reader.lastRead = now
                readers[process] = reader
            }
            let isIdle = !reader.hasRead && now - reader.lastRead > Self.beginning
            let isOver = frozen.map { $0.patience.isOver(since: $0.since, lastRead: reader.lastRead, now: now) } ?? false
            if isIdle || isOver || kill(process, 0) != 0 { readers[process] = nil }
        }
    }

    /// Whether a process is one of root's that may be about to copy the file.
    private static func mayCopy(_ process: pid_t) -> Bool {
        var (owner, program, own) = (stat(), stat(), stat())
        guard process > 0, stat("/proc/\(process)", &owner) == 0, owner.st_uid == 0,
            // Threads of the kernel have no program.
            stat("/proc/\(process)/exe", &program) == 0
        else { return false }
        guard stat("/proc/self/exe", &own) == 0, own.st_dev == program.st_dev, own.st_ino == program.st_ino else { return true }
        let words = (try? Files.readText("/proc/\(process)/cmdline"))?.split(separator: "\0") ?? []
        return words.contains("copy")
    }

    /// Whether a process is in a call that copies without coming back for long.
    private static func isInCopyCall(_ process: pid_t) -> Bool {
        guard let text = try? Files.readText("/proc/\(process)/syscall"), let number = Int(text.prefix { $0 != " " }) else { return false }
        return number == CLINUX_CALL_COPY_FILE_RANGE || number == CLINUX_CALL_SENDFILE
    }
}
