import CLinux
import Glibc
import Linux

extension OwnerEmulation {
    /// chown(2) and its kin.
    func changeOwner(_ question: Question) {
        let path = paths.path
        let status: CInt
        switch question.request.call {
        case CLINUX_CALL_CHOWN:
            status = path.with(question, AT_FDCWD, question.address(0)) { change($0, follow: true, question.id(1), question.id(2)) }
        case CLINUX_CALL_LCHOWN:
            status = path.with(question, AT_FDCWD, question.address(0), follow: false) {
                change($0, follow: false, question.id(1), question.id(2))
            }
        case CLINUX_CALL_FCHOWN:
            status = path.descriptor(question, question.int(0)) { change($0, follow: true, question.id(1), question.id(2)) }
        default:
            let flags = question.int(4)
            let isDescriptor = flags & Self.emptyPath != 0
            let follow = flags & AT_SYMLINK_NOFOLLOW == 0
            status = path.with(question, question.int(0), question.address(1), isEmptyAllowed: isDescriptor, follow: follow) {
                // The path of an open file is a link that must be followed.
                change($0, follow: follow || Self.isDescriptorPath($0), question.id(2), question.id(3))
            }
        }
        question.finish(status)
    }

    static let emptyPath: CInt = 0x1000

    /// `/proc/PID/fd/N` and nothing behind it.
    static func isDescriptorPath(_ path: UnsafePointer<CChar>) -> Bool {
        let text = UnsafeRawBufferPointer(start: path, count: strlen(path))
        guard text.starts(with: Array("/proc/".utf8)) else { return false }
        let parts = text.split(separator: UInt8(ascii: "/"))
        return parts.count == 4 && parts[2].elementsEqual(Array("fd".utf8)) && parts[1].allSatisfy { $0 >= 0x30 && $0 <= 0x39 }
    }

    private func change(_ path: UnsafePointer<CChar>, follow: Bool, _ uid: UInt32, _ gid: UInt32) -> CInt {
        var status = stat()
        let found = Self.look(path, follow: follow, &status)
        guard found == 0 else { return found }
        let old = record(path, status)
        var new = old ?? OwnerRecord(uid: status.st_uid, gid: status.st_gid)
        if uid != Credentials.unchanged { new.uid = uid }
        if gid != Credentials.unchanged { new.gid = gid }
        let kind = status.st_mode & S_IFMT
        if kind == S_IFREG, status.st_mode & 0o6000 != 0 {
            // As in the kernel, rights that a file gives do not go to another owner with it.
            let kept = status.st_mode & ~(status.st_mode & 0o010 != 0 ? 0o6000 : 0o4000)
            if kept != status.st_mode, new != old { chmod(path, kept & 0o7777) }
        }
        if new == old || (old == nil && new.isDefault) { return 0 }
        if kind == S_IFREG || kind == S_IFDIR {
            if kind == S_IFREG { removexattr(path, "security.capability") }
            let result = new.write(path)
            if result != EOPNOTSUPP { return result }
        }
        // The file must be in the upper layer to have numbers of its own.
        guard fchownat(AT_FDCWD, path, 0, 0, follow ? 0 : AT_SYMLINK_NOFOLLOW) == 0 else { return errno }
        guard Self.look(path, follow: follow, &status) == 0 else { return errno }
        remember(Owner(uid: new.uid, gid: new.gid), of: Self.key(status))
        return 0
    }

    // MARK: What is said of files

    /// stat(2) and its kin.
    func status(_ question: Question) {
        let path = paths.path
        switch question.request.call {
        case CLINUX_CALL_STAT:
            finish(question, path.with(question, AT_FDCWD, question.address(0)) { tell(question, $0, follow: true, 1) })
        case CLINUX_CALL_LSTAT:
            finish(
                question,
                path.with(question, AT_FDCWD, question.address(0), follow: false) { tell(question, $0, follow: false, 1) })
        case CLINUX_CALL_FSTAT:
            finish(question, path.descriptor(question, question.int(0)) { tell(question, $0, follow: true, 1) })
        case CLINUX_CALL_NEWFSTATAT:
            let flags = question.int(3)
            let follow = flags & AT_SYMLINK_NOFOLLOW == 0
            finish(
                question,
                path.with(question, question.int(0), question.address(1), isEmptyAllowed: flags & Self.emptyPath != 0, follow: follow) {
                    tell(question, $0, follow: follow || Self.isDescriptorPath($0), 2)
                })
        default:
            let flags = question.int(2)
            let follow = flags & AT_SYMLINK_NOFOLLOW == 0
            finish(
                question,
                path.with(question, question.int(0), question.address(1), isEmptyAllowed: flags & Self.emptyPath != 0, follow: follow) {
                    tellExtended(question, $0, follow: follow || Self.isDescriptorPath($0))
                })
        }
    }

    /// Not an errno: the kernel shall answer.
    private static let passes: CInt = -1

    private func finish(_ question: Question, _ status: CInt) {
        // Whatever went wrong here, the kernel says it in its own way.
        if status == 0 { question.answer() } else { question.pass() }
    }

    /// - Parameter index: of the argument that holds the structure's address.
    private func tell(_ question: Question, _ path: UnsafePointer<CChar>, follow: Bool, _ index: Int) -> CInt {
        var status = stat()
        guard Self.look(path, follow: follow, &status) == 0 else { return Self.passes }
        guard let record = record(path, status) else { return Self.passes }
        status.st_uid = record.uid
        status.st_gid = record.gid
        if let device = record.device {
            status.st_mode = status.st_mode & ~S_IFMT | (device.isBlock ? S_IFBLK : S_IFCHR)
            status.st_rdev = dev_t(device.number)
        }
        return question.write(status, at: question.address(index)) ? 0 : EFAULT
    }

    private func tellExtended(_ question: Question, _ path: UnsafePointer<CChar>, follow: Bool) -> CInt {
        var status = stat()
        guard Self.look(path, follow: follow, &status) == 0 else { return Self.passes }
        guard let record = record(path, status) else { return Self.passes }
        let size = 256
        return withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { buffer in
            let flags = follow ? 0 : AT_SYMLINK_NOFOLLOW
            guard clinux_statx(AT_FDCWD, path, flags, question.id(3), buffer.baseAddress) == 0 else { return Self.passes }
            var mode: Int64 = -1
            if let device = record.device { mode = Int64(status.st_mode & 0o7777 | (device.isBlock ? S_IFBLK : S_IFCHR)) }
            clinux_statx_patch(
                buffer.baseAddress, Int64(record.uid), Int64(record.gid), mode, record.device?.major ?? 0,
                record.device?.minor ?? 0, record.device == nil ? 0 : 1)
            return question.write(UnsafeRawBufferPointer(buffer), at: question.address(4)) ? 0 : EFAULT
        }
    }
}
