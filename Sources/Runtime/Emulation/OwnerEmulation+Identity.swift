import CLinux
import Glibc
import Linux

extension OwnerEmulation {
    /// Groups that a process may have (NGROUPS_MAX).
    private static let mostGroups: UInt32 = 65536

    /// setuid(2), getuid(2) and their kin.
    func identity(_ question: Question) {
        let old = credentials(of: question.pid)
        var new = old
        let status: CInt
        switch question.request.call {
        case CLINUX_CALL_GETUID: return question.answer(Int64(old.real))
        case CLINUX_CALL_GETEUID: return question.answer(Int64(old.effective))
        case CLINUX_CALL_GETGID: return question.answer(Int64(old.realGroup))
        case CLINUX_CALL_GETEGID: return question.answer(Int64(old.effectiveGroup))
        case CLINUX_CALL_GETRESUID: return tell(question, [old.real, old.effective, old.saved])
        case CLINUX_CALL_GETRESGID: return tell(question, [old.realGroup, old.effectiveGroup, old.savedGroup])
        case CLINUX_CALL_GETGROUPS: return tellGroups(question, old)
        case CLINUX_CALL_SETUID: status = new.setUser(question.id(0))
        case CLINUX_CALL_SETGID: status = new.setGroup(question.id(0))
        case CLINUX_CALL_SETREUID: status = new.setUsers(question.id(0), question.id(1))
        case CLINUX_CALL_SETREGID: status = new.setGroups(question.id(0), question.id(1))
        case CLINUX_CALL_SETRESUID: status = new.setUsers(question.id(0), question.id(1), question.id(2))
        case CLINUX_CALL_SETRESGID: status = new.setGroups(question.id(0), question.id(1), question.id(2))
        case CLINUX_CALL_SETGROUPS: status = setGroups(question, &new)
        case CLINUX_CALL_SETFSUID, CLINUX_CALL_SETFSGID: return setFileSystemID(question, new)
        default: return question.pass()
        }
        question.finish(status == 0 ? keep(new, old, question.pid) : status)
    }

    private func keep(_ new: Credentials, _ old: Credentials, _ pid: pid_t) -> CInt {
        if new == old { return 0 }
        return clinux_set_tag(pid, credentials.number(of: new)) == 0 ? 0 : errno
    }

    /// They return the old id, whatever happens.
    private func setFileSystemID(_ question: Question, _ old: Credentials) {
        var new = old
        let wanted = question.id(0)
        if question.request.call == CLINUX_CALL_SETFSUID {
            if old.isRoot || [old.real, old.effective, old.saved].contains(wanted) { new.fileSystem = wanted }
            if wanted != Credentials.unchanged { _ = keep(new, old, question.pid) }
            return question.answer(Int64(old.fileSystem))
        }
        if old.isRoot || [old.realGroup, old.effectiveGroup, old.savedGroup].contains(wanted) { new.fileSystemGroup = wanted }
        if wanted != Credentials.unchanged { _ = keep(new, old, question.pid) }
        question.answer(Int64(old.fileSystemGroup))
    }

    private func setGroups(_ question: Question, _ new: inout Credentials) -> CInt {
        guard new.isRoot else { return EPERM }
        let count = question.id(0)
        guard count <= Self.mostGroups else { return EINVAL }
        var groups = [UInt32](repeating: 0, count: Int(count))
        if count > 0 {
            let bytes = Int64(count) * 4
            let read = groups.withUnsafeMutableBytes {
                clinux_read_memory(question.pid, question.address(1), $0.baseAddress, UInt64(bytes))
            }
            guard read == bytes else { return EFAULT }
        }
        new.groups = groups
        return 0
    }

    private func tell(_ question: Question, _ ids: [UInt32]) {
        for (index, id) in ids.enumerated() where !question.write(id, at: question.address(index)) {
            return question.fail(EFAULT)
        }
        question.answer()
    }

    private func tellGroups(_ question: Question, _ credentials: Credentials) {
        let room = question.int(0)
        if room == 0 { return question.answer(Int64(credentials.groups.count)) }
        guard room >= credentials.groups.count else { return question.fail(EINVAL) }
        let isWritten = credentials.groups.withUnsafeBytes { question.write($0, at: question.address(1)) }
        if isWritten { question.answer(Int64(credentials.groups.count)) } else { question.fail(EFAULT) }
    }
}
