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
        // What this process would write, with another's number.
        let own = try #require(try Lease.take(folder + "/own"))
        let words = try Files.readText(folder + "/own").split(separator: " ", omittingEmptySubsequences: false)
        own.release()
        func text(_ space: some StringProtocol) -> [UInt8] { Array("\(words[0]) 999999 1 \(space) 1 x\n".utf8) }
        try Files.replace(folder + "/lease", with: text(words[3]))
        #expect(try Lease.take(folder + "/lease") != nil)
        // Whether a process of another PID namespace is alive cannot be seen.
        try Files.replace(folder + "/inner", with: text("7@another/1"))
        #expect(try Lease.take(folder + "/inner") == nil)
        // One of another host counts until it has not been renewed for long.
        try Files.replace(folder + "/other", with: Array("elsewhere 1 1 x\n".utf8))
        #expect(try Lease.take(folder + "/other") == nil)
        let old = time(nil) - 3600
        var times = [timeval(tv_sec: old, tv_usec: 0), timeval(tv_sec: old, tv_usec: 0)]
        utimes(folder + "/other", &times)
        #expect(try Lease.take(folder + "/other") != nil)
    }

    /// Many find the same dead lease at once, again and again: one of them has it.
    @Test func aDeadLeaseIsTakenOverOnce() async throws {
        let folder = try folder()
        defer { Files.removeTree(folder) }
        let path = folder + "/lease"
        for _ in 0..<200 {
            try Files.replace(path, with: Array("elsewhere 1 1 \(UInt64.random(in: 0 ... .max))\n".utf8))
            var times = [timeval(tv_sec: 1000, tv_usec: 0), timeval(tv_sec: 1000, tv_usec: 0)]
            utimes(path, &times)
            let taken = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<8 {
                    group.addTask { ((try? Lease.take(path)) ?? nil) != nil }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(taken == 1)
        }
        #expect(try Files.entries(folder) == ["lease"])
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
