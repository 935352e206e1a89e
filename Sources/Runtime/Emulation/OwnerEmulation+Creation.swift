import CLinux
import Glibc
import Linux

extension OwnerEmulation {
    // MARK: Devices

    /// mknod(2) of a device: an empty file with a record stands for it.
    func makeDevice(_ question: Question) {
        let isAt = question.request.call == CLINUX_CALL_MKNODAT
        let (directory, address, next) = isAt ? (question.int(0), question.address(1), 2) : (AT_FDCWD, question.address(0), 1)
        let mode = mode_t(question.id(next))
        let number = dev_t(question.address(next + 1))
        guard credentials(of: question.pid).isRoot else { return question.fail(EPERM) }
        // A whiteout of overlayfs, which anybody may make.
        if mode & S_IFMT == S_IFCHR, number == 0 { return question.pass() }
        question.finish(
            paths.path.with(question, directory, address, follow: false) { path in
                let raw = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0o7777 & ~Self.mask(of: question.pid))
                guard raw >= 0 else { return errno }
                close(raw)
                let device = OwnerRecord.Device(isBlock: mode & S_IFMT == S_IFBLK, number: UInt64(number))
                let status = OwnerRecord(uid: 0, gid: 0, device: device).write(path)
                if status != 0 { unlink(path) }
                return status
            })
    }

    // MARK: Files of other users

    /// A file that is made by a process that has become another user belongs to that one.
    func create(_ question: Question) {
        let user = credentials(of: question.pid)
        guard user.fileSystem != 0 || user.fileSystemGroup != 0 else { return question.pass() }
        switch question.request.call {
        case CLINUX_CALL_MKDIR: makeDirectory(question, AT_FDCWD, 0, user)
        case CLINUX_CALL_MKDIRAT: makeDirectory(question, question.int(0), 1, user)
        case CLINUX_CALL_CREAT: makeFile(question, AT_FDCWD, question.address(0), O_WRONLY | O_CREAT | O_TRUNC, question.id(1), user)
        case CLINUX_CALL_OPEN: makeFile(question, AT_FDCWD, question.address(0), question.int(1), question.id(2), user)
        default: makeFile(question, question.int(0), question.address(1), question.int(2), question.id(3), user)
        }
    }

    private func makeDirectory(_ question: Question, _ directory: CInt, _ index: Int, _ user: Credentials) {
        let mode = mode_t(question.id(index + 1)) & 0o7777 & ~Self.mask(of: question.pid)
        question.finish(
            paths.path.with(question, directory, question.address(index), follow: false) { path in
                guard mkdir(path, mode) == 0 else { return errno }
                return claim(path, user)
            })
    }

    private func makeFile(
        _ question: Question, _ directory: CInt, _ address: UInt64, _ flags: CInt, _ mode: UInt32, _ user: Credentials
    ) {
        let permissions = mode_t(mode) & 0o7777 & ~Self.mask(of: question.pid)
        let status = paths.path.with(question, directory, address, follow: false) { path in
            let raw = open(path, flags | O_CREAT | O_EXCL | O_CLOEXEC, permissions)
            guard raw >= 0 else { return errno }
            let file = OwnedDescriptor(raw)
            let result = claim(path, user)
            guard result == 0 else { return result }
            question.answer(descriptor: file.rawValue, closeOnExec: flags & O_CLOEXEC != 0)
            return 0
        }
        switch status {
        case 0: break
        // It is there: the kernel opens it, or says that it must not be.
        case EEXIST: question.pass()
        default: question.fail(status)
        }
    }

    /// Records the owner of a new file.
    private func claim(_ path: UnsafePointer<CChar>, _ user: Credentials) -> CInt {
        let status = OwnerRecord(uid: user.fileSystem, gid: user.fileSystemGroup).write(path)
        return status == EOPNOTSUPP ? 0 : status
    }

    /// The umask of a process (proc_pid_status(5)).
    private static func mask(of pid: pid_t) -> mode_t {
        guard let text = try? Files.readText("/proc/\(pid)/status", limit: 1 << 16) else { return 0o022 }
        for line in text.split(separator: "\n") where line.hasPrefix("Umask:") {
            return mode_t(line.dropFirst(6).drop { $0 == "\t" || $0 == " " }, radix: 8) ?? 0o022
        }
        return 0o022
    }

    // MARK: Attributes

    /// Access control lists name ids that do not exist here, and no image keeps them: they are taken and forgotten.
    func setAttribute(_ question: Question) {
        let prefix = Array("system.posix_acl_".utf8)
        let isList = withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { buffer in
            let count = clinux_read_memory(question.pid, question.address(1), buffer.baseAddress, UInt64(prefix.count))
            return count == prefix.count && buffer[..<prefix.count].elementsEqual(prefix)
        }
        if isList { question.answer() } else { question.pass() }
    }
}
