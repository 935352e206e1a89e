import Foundation
import Linux
import Testing

@Suite struct FileTests {
    private func folder() throws -> String {
        let path = NSTemporaryDirectory() + "/linux-\(UInt32.random(in: 0 ... .max))"
        try Files.makeDirectories(path)
        return path
    }

    @Test func anOutputFileAppearsWhenItIsComplete() throws {
        let folder = try folder()
        defer { Files.removeTree(folder) }
        do {
            let output = try OutputFile(folder + "/file", mode: 0o644)
            try Files.writeAll([1, 2], to: output.descriptor, name: "file")
            #expect(try Files.entries(folder).filter { $0 == "file" } == [])
            try output.commit()
        }
        #expect(try Files.read(folder + "/file") == [1, 2])
        // One that is given up leaves the old file, and nothing else.
        do {
            let output = try OutputFile(folder + "/file", mode: 0o644)
            try Files.writeAll([3], to: output.descriptor, name: "file")
        }
        #expect(try Files.read(folder + "/file") == [1, 2])
        #expect(try Files.entries(folder) == ["file"])
    }

    @Test func aLeaseHasOneHolder() throws {
        let folder = try folder()
        defer { Files.removeTree(folder) }
        let first = try #require(try Lease.take(folder + "/lease"))
        #expect(try Lease.take(folder + "/lease") == nil)
        first.release()
        #expect(try Lease.take(folder + "/lease") != nil)
    }

    @Test func aLeaseOfADeadProcessIsTakenOver() throws {
        let folder = try folder()
        defer { Files.removeTree(folder) }
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, 255)
        let host = String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        try Files.replace(folder + "/lease", with: Array("\(host) 999999 1 x\n".utf8))
        #expect(try Lease.take(folder + "/lease") != nil)
        // One of another host counts until it has not been renewed for long.
        try Files.replace(folder + "/other", with: Array("elsewhere 1 1 x\n".utf8))
        #expect(try Lease.take(folder + "/other") == nil)
        let old = time(nil) - 3600
        var times = [timeval(tv_sec: old, tv_usec: 0), timeval(tv_sec: old, tv_usec: 0)]
        utimes(folder + "/other", &times)
        #expect(try Lease.take(folder + "/other") != nil)
    }

    @Test func pathsAreResolvedInsideTheirRoot() throws {
        let folder = try folder()
        defer { Files.removeTree(folder) }
        try Files.makeDirectories(folder + "/etc")
        try Files.replace(folder + "/etc/passwd", with: [42])
        symlink("/etc/passwd", folder + "/absolute")
        symlink("../../../../../../etc/passwd", folder + "/relative")
        let root = try OwnedDescriptor.open(folder, O_RDONLY | O_DIRECTORY)
        for name in ["absolute", "relative", "../../etc/passwd"] {
            let file = try Files.open(inRoot: root.rawValue, name, O_RDONLY)
            #expect(try Files.read(file, name: name) == [42])
        }
    }

    @Test func treesAreRemovedWithoutFollowingLinks() throws {
        let folder = try folder()
        defer { Files.removeTree(folder) }
        try Files.makeDirectories(folder + "/kept")
        try Files.replace(folder + "/kept/file", with: [1])
        try Files.makeDirectories(folder + "/tree/closed")
        symlink(folder + "/kept", folder + "/tree/link")
        try Files.replace(folder + "/tree/closed/file", with: [1])
        chmod(folder + "/tree/closed", 0)
        Files.removeTree(folder + "/tree")
        #expect(Files.status(folder + "/tree") == nil)
        #expect(try Files.read(folder + "/kept/file") == [1])
    }
}
