import CLinux
import Glibc
import Linux

/// Lets programs change owners, make devices and become other users in a user namespace where only one id exists, and
/// remembers what they did.
///
/// The kernel asks before such a system call is done (seccomp_unotify(2)). Owners are kept in an extended attribute of
/// the file itself, so they follow it through renames, hard links and copies to an upper layer, and go with it. What
/// stat(2) says agrees with them. No call gets rights that the processes do not have: the answers are made with the
/// same rights.
final class OwnerEmulation {
    let paths: ProcessPathBox
    var credentials = CredentialTable()
    /// Owners of what can have no attribute: links, pipes and sockets.
    private(set) var others: [FileKey: Owner] = [:]
    private var cache: [CacheKey: OwnerRecord?] = [:]

    struct Owner: Equatable {
        var uid: UInt32
        var gid: UInt32
    }

    /// Owners of files in the upper layer, by inode number: the device that the overlay shows is not that of the layer.
    var othersOfLayer: [UInt64: Owner] {
        var out: [UInt64: Owner] = [:]
        for (file, owner) in others where upperDevice == nil || upperDevice == file.device { out[file.inode] = owner }
        return out
    }

    /// A file, by numbers that it keeps in its layer.
    struct FileKey: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    /// A file as it is since its last change: attributes change with the time of the inode.
    private struct CacheKey: Hashable {
        var file: FileKey
        var seconds: Int
        var nanoseconds: Int
    }

    /// A class, as its buffer is shared.
    final class ProcessPathBox {
        var path = ProcessPath()
    }

    /// Files whose records are remembered, at most.
    private static let cacheLimit = 1 << 17

    init() { paths = ProcessPathBox() }

    /// Takes the next question and answers it.
    func answerNext(_ listener: CInt) {
        var request = clinux_request()
        guard clinux_notify_receive(listener, &request) == 0 else { return }
        let question = Question(listener: listener, request: request)
        switch request.call {
        case CLINUX_CALL_CHOWN, CLINUX_CALL_LCHOWN, CLINUX_CALL_FCHOWN, CLINUX_CALL_FCHOWNAT: changeOwner(question)
        case CLINUX_CALL_MKNOD, CLINUX_CALL_MKNODAT: makeDevice(question)
        case CLINUX_CALL_STAT, CLINUX_CALL_LSTAT, CLINUX_CALL_FSTAT, CLINUX_CALL_NEWFSTATAT, CLINUX_CALL_STATX: status(question)
        case CLINUX_CALL_OPEN, CLINUX_CALL_CREAT, CLINUX_CALL_OPENAT, CLINUX_CALL_MKDIR, CLINUX_CALL_MKDIRAT: create(question)
        case CLINUX_CALL_SETXATTR, CLINUX_CALL_LSETXATTR, CLINUX_CALL_FSETXATTR: setAttribute(question)
        case CLINUX_CALL_CHROOT:
            paths.path.rootsDiffer = true
            question.pass()
        default: identity(question)
        }
    }

    /// The credentials of a process.
    func credentials(of pid: pid_t) -> Credentials {
        var number: UInt32 = 0
        guard clinux_get_tag(pid, &number) == 0 else { return credentials[0] }
        return credentials[number]
    }

    // MARK: Records

    /// What is recorded of a file.
    func record(_ path: UnsafePointer<CChar>, _ status: stat) -> OwnerRecord? {
        let file = Self.key(status)
        switch status.st_mode & S_IFMT {
        case S_IFREG, S_IFDIR: break
        default: return others[file].map { OwnerRecord(uid: $0.uid, gid: $0.gid) }
        }
        let key = CacheKey(file: file, seconds: status.st_ctim.tv_sec, nanoseconds: status.st_ctim.tv_nsec)
        if let known = cache[key] { return known }
        let record = OwnerRecord.read(path)
        // The kernel's clock may stand still between two changes; what changed a moment ago is not remembered.
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        if now.tv_sec - status.st_ctim.tv_sec > 1 {
            if cache.count >= Self.cacheLimit { cache.removeAll() }
            cache[key] = record
        }
        return record
    }

    static func key(_ status: stat) -> FileKey { FileKey(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)) }

    /// Device that files of the upper layer show; nil where that is not known.
    var upperDevice: UInt64?

    /// Remembers the owner of a file that can have no attribute.
    func remember(_ owner: Owner, of file: FileKey) { others[file] = owner == Owner(uid: 0, gid: 0) ? nil : owner }

    /// `stat` of a path that may be a link.
    static func look(_ path: UnsafePointer<CChar>, follow: Bool, _ status: inout stat) -> CInt {
        fstatat(AT_FDCWD, path, &status, follow ? 0 : AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno
    }
}
