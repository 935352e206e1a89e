import Foundation
import Linux
import Testing

struct ImageLeaseTests {
    private let folder: String
    private var image: String { folder + "/image" }

    init() throws {
        var template = Array("/tmp/singularity-lease.XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&template).map { String(cString: $0) })
        try Data().write(to: URL(filePath: folder + "/image"))
    }

    @Test func whoHasLostItIsTold() throws {
        defer { Files.removeTree(folder) }
        let file = try OwnedDescriptor.open(image, O_RDWR)
        let lease = try ImageLease.take(image, file: file.rawValue, forWriting: true, note: "one")
        #expect(lease.renew())
        // Another host has taken it over while this one was frozen.
        try Data("elsewhere 1 2 3 4 other\n".utf8).write(to: URL(filePath: ImageLease.path(of: image)))
        #expect(!lease.renew())
        lease.release()
        #expect(FileManager.default.fileExists(atPath: ImageLease.path(of: image)))
    }

    @Test func theSecondWriterIsToldWhoTheFirstIs() throws {
        defer { Files.removeTree(folder) }
        let file = try OwnedDescriptor.open(image, O_RDWR)
        let lease = try ImageLease.take(image, file: file.rawValue, forWriting: true, note: "the instance x\nof y")
        let other = try OwnedDescriptor.open(image, O_RDWR)
        do {
            _ = try ImageLease.take(image, file: other.rawValue, forWriting: true, note: "two")
            Issue.record("two writers")
        } catch let error as ImageLease.Held {
            #expect(error.description.contains("the instance x of y, process \(getpid()) since"), "\(error)")
        }
        lease.release()
        #expect(!FileManager.default.fileExists(atPath: ImageLease.path(of: image)))
    }
}
