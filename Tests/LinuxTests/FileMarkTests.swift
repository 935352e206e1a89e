import Glibc
import Linux
import Testing

struct FileMarkTests {
    @Test func itLastsAsLongAsTheFileIsOpenAndIsApartFromLocks() throws {
        var template = Array("/tmp/singularity-mark.XXXXXX".utf8CString)
        let writer = OwnedDescriptor(mkstemp(&template))
        let path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        defer { unlink(path) }
        #expect(flock(writer.rawValue, LOCK_EX | LOCK_NB) == 0)
        #expect(!FileMark.copying.isSet(writer.rawValue))
        do {
            let first = try OwnedDescriptor.open(path, O_RDONLY)
            let second = try OwnedDescriptor.open(path, O_RDONLY)
            FileMark.copying.set(first.rawValue)
            FileMark.copying.set(second.rawValue)
            #expect(FileMark.copying.isSet(writer.rawValue))
            close(first.release())
            #expect(FileMark.copying.isSet(writer.rawValue))
            close(second.release())
        }
        #expect(!FileMark.copying.isSet(writer.rawValue))
    }

    @Test func oneIsNotTheOther() throws {
        var template = Array("/tmp/singularity-mark.XXXXXX".utf8CString)
        let writer = OwnedDescriptor(mkstemp(&template))
        let path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        defer { unlink(path) }
        let other = try OwnedDescriptor.open(path, O_RDWR)
        FileMark.waiting.set(other.rawValue)
        #expect(FileMark.waiting.isSet(writer.rawValue) && !FileMark.copying.isSet(writer.rawValue))
        FileMark.waiting.takeAway(other.rawValue)
        #expect(!FileMark.waiting.isSet(writer.rawValue))
    }
}
