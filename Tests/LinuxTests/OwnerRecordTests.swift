import Linux
import Testing

/// Owners that are kept in an attribute.
struct OwnerRecordTests {
    @Test(arguments: [
        OwnerRecord(uid: 0, gid: 0), OwnerRecord(uid: 42, gid: 43), OwnerRecord(uid: 4_294_967_294, gid: 1, mode: 0o4500),
        OwnerRecord(uid: 0, gid: 6, device: .init(isBlock: true, major: 8, minor: 17)),
        OwnerRecord(uid: 1, gid: 2, device: .init(isBlock: false, major: 4095, minor: 1_048_575), mode: 0),
    ])
    func whatIsWrittenIsReadBack(_ record: OwnerRecord) { #expect(OwnerRecord(parsing: Array(record.text.utf8)) == record) }

    @Test(arguments: ["", "1", "1:", ":1", "1:2:3", "a:b", "1:2 x", "1:2 c1", "1:2 m9", "1:2 m77777", "4294967296:0", "-1:0", "1:2 c1:2:3"])
    func othersAreRefused(_ text: String) { #expect(OwnerRecord(parsing: Array(text.utf8)) == nil) }

    @Test func deviceNumbersAreThoseOfTheKernel() {
        for (major, minor) in [(1, 3), (8, 17), (259, 300), (4095, 1_048_575)] as [(UInt32, UInt32)] {
            let device = OwnerRecord.Device(isBlock: false, major: major, minor: minor)
            #expect(OwnerRecord.Device(isBlock: false, number: device.number) == device)
        }
        #expect(OwnerRecord.Device(isBlock: false, major: 1, minor: 3).number == 0x103)
    }
}
