import BlockIO
import Foundation
import Linux
import SIF
import TestSupport
import Testing

@Suite struct FileTests {
    @Test(arguments: ["tiny", "edited", "tiny-two-groups", "tiny-two-signers"]) func listsAndHeadersAreThePeers(_ name: String) throws {
        let file = try SIFFile(reading: MemorySource(try Fixture.bytes("\(name).sif")))
        #expect(Listing.table(file) == (try Fixture.text("\(name).list.txt")))
        #expect(Listing.header(file.header) == (try Fixture.text("\(name).header.txt")))
    }

    @Test func objectsArePrintedAsThePeersDo() throws {
        let file = try SIFFile(reading: MemorySource(try Fixture.bytes("edited.sif")))
        let text = try (1...4 as ClosedRange<UInt32>).map { Listing.object(try file.descriptor(id: $0)) + "---\n" }.joined()
        #expect(text == (try Fixture.text("edited.info.txt")))
    }

    /// An open file without a name.
    private func temporary() throws -> SharedDescriptor {
        var template = Array((NSTemporaryDirectory() + "/sif.XXXXXX").utf8CString)
        let raw = mkstemp(&template)
        unlink(&template)
        return SharedDescriptor(OwnedDescriptor(raw))
    }

    private func reread(_ file: SharedDescriptor) throws -> SIFFile { try SIFFile(reading: try FileSource(file, name: "test")) }

    @Test func objectsAreAddedRemovedAndTheirSlotsUsedAgain() throws {
        let file = try temporary()
        let writer = try SIFWriter(creating: file.rawValue, name: "test", time: 1000, id: [UInt8](repeating: 3, count: 16))
        try writer.add(NewObject(.genericJSON, name: "one"), [1, 2, 3])
        try writer.add(NewObject(.generic, group: 0, link: .object(1), name: "two"), [4])
        try writer.commit()
        let change = try SIFWriter(changing: file, name: "test", time: 2000)
        try change.remove(id: 1)
        try change.add(NewObject(.generic, name: "three", alignment: 1024), [UInt8](repeating: 7, count: 10))
        try change.commit()
        let read = try reread(file)
        #expect(read.descriptors.map(\.name) == ["three", "two"])
        #expect(try read.descriptor(id: 1).offset % 1024 == 0)
        #expect(read.header.modified == 2000)
        #expect(read.header.descriptorsFree == 46)
        #expect(throws: SIFError.self) { try read.descriptor(id: 3) }
    }

    @Test func onlyOnePartitionIsPrimary() throws {
        let file = try temporary()
        let writer = try SIFWriter(creating: file.rawValue, name: "test", time: nil, id: [])
        let amd64 = try #require(Architecture(name: "amd64"))
        let arm64 = try #require(Architecture(name: "arm64"))
        try writer.add(NewObject(.partition, detail: .partition(.squashFS, .primarySystem, amd64)), [1])
        try writer.add(NewObject(.partition, detail: .partition(.squashFS, .system, arm64)), [2])
        #expect(throws: SIFError.self) { try writer.add(NewObject(.partition, detail: .partition(.squashFS, .primarySystem, amd64)), [3]) }
        try writer.setPrimary(id: 2)
        try writer.commit()
        let read = try reread(file)
        #expect(read.primaryPartition?.id == 2)
        #expect(read.header.architecture == arm64)
        #expect(read.header.isDeterministic)
    }

    @Test func damagedHeadersAndTablesAreErrorsNotCrashes() throws {
        let whole = Array(try Fixture.bytes("tiny-two-groups.sif"))
        for position in Array(0..<128) + Array(stride(from: 4096, to: 4096 + 585 * 8, by: 3)) {
            for value in [0, 0x7f, 0xff] as [UInt8] {
                var bytes = whole
                bytes[position] = value
                do {
                    let file = try SIFFile(reading: MemorySource(bytes))
                    _ = Listing.table(file) + Listing.header(file.header) + file.descriptors.map(Listing.object).joined()
                } catch { #expect(!"\(error)".isEmpty) }
            }
        }
    }

    @Test func truncatedFilesAreErrors() throws {
        let whole = try Fixture.bytes("tiny.sif")
        for count in stride(from: 0, to: 34_000, by: 611) {
            #expect(throws: SIFError.self) { try SIFFile(reading: MemorySource(Array(whole.prefix(count)))) }
        }
    }
}
