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

    /// Access control lists name ids that do not exist here, and no image keeps them: what they say to the mode is done,
    /// the rest is forgotten (acl(5)).
    func setAttribute(_ question: Question) {
        guard let name = attributeName(question), name.hasPrefix("system.posix_acl_") else { return question.pass() }
        // A list that says no more than a mode is the kernel's business.
        let size = question.address(3)
        guard size > Self.leastList, size <= Self.longestList else { return question.pass() }
        guard name == "system.posix_acl_access" else { return question.answer() }
        var list = [UInt8](repeating: 0, count: Int(size))
        let count = list.withUnsafeMutableBytes { clinux_read_memory(question.pid, question.address(2), $0.baseAddress, size) }
        guard count == Int64(size), let bits = Self.mode(of: list) else { return question.fail(EINVAL) }
        let path = paths.path
        let isDescriptor = question.request.call == CLINUX_CALL_FSETXATTR
        func apply(_ path: UnsafePointer<CChar>) -> CInt {
            var status = stat()
            guard Self.look(path, follow: true, &status) == 0 else { return errno }
            return chmod(path, status.st_mode & 0o7000 | bits) == 0 ? 0 : errno
        }
        question.finish(
            isDescriptor
                ? path.descriptor(question, question.int(0), apply) : path.with(question, AT_FDCWD, question.address(0), apply))
    }

    /// Bytes of a list with the three entries that every file has.
    private static let leastList: UInt64 = 4 + 3 * 8
    private static let longestList: UInt64 = 64 << 10

    /// The permission bits that a list stands for: those of the owner, of the mask or else the group, and of others.
    private static func mode(of list: [UInt8]) -> mode_t? {
        guard list.count >= 4, (list.count - 4) % 8 == 0 else { return nil }
        var found: [UInt16: mode_t] = [:]
        for start in stride(from: 4, to: list.count, by: 8) {
            let tag = UInt16(list[start]) | UInt16(list[start + 1]) << 8
            found[tag] = mode_t(list[start + 2] & 7)
        }
        guard let owner = found[0x01], let group = found[0x10] ?? found[0x04], let others = found[0x20] else { return nil }
        return owner << 6 | group << 3 | others
    }

    private func attributeName(_ question: Question) -> String? {
        withUnsafeTemporaryAllocation(byteCount: 256, alignment: 1) { buffer in
            question.readText(at: question.address(1), into: buffer).map { String(decoding: buffer[..<$0], as: UTF8.self) }
        }
    }
}
