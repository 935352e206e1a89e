import Glibc
import Linux
import Testing

struct CopyMarkTests {
    @Test func itLastsAsLongAsTheFileIsOpenAndIsApartFromLocks() throws {
        var template = Array("/tmp/singularity-mark.XXXXXX".utf8CString)
        let writer = OwnedDescriptor(mkstemp(&template))
        let path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        defer { unlink(path) }
        #expect(flock(writer.rawValue, LOCK_EX | LOCK_NB) == 0)
        #expect(!CopyMark.isSet(writer.rawValue))
        do {
            let first = try OwnedDescriptor.open(path, O_RDONLY)
            let second = try OwnedDescriptor.open(path, O_RDONLY)
            CopyMark.set(first.rawValue)
            CopyMark.set(second.rawValue)
            #expect(CopyMark.isSet(writer.rawValue))
            close(first.release())
            #expect(CopyMark.isSet(writer.rawValue))
            close(second.release())
        }
        #expect(!CopyMark.isSet(writer.rawValue))
    }
}
