import Glibc
import Linux
import Testing

struct FileLockTests {
    private let folder: String

    init() throws {
        var template = Array("/tmp/singularity-lock.XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    @Test func whatIsUsedIsNotCleanedUp() throws {
        defer { Files.removeTree(folder) }
        let outcome = FileLock.share(folder)
        guard case .taken = outcome else {
            Issue.record("not taken")
            return
        }
        withExtendedLifetime(outcome) { #expect(!FileLock.whenUnused(folder) { Issue.record("removed what is in use") }) }
    }

    @Test func whatIsBeingRemovedIsGone() throws {
        var isGone = false
        let isDone = FileLock.whenUnused(folder) {
            if case .gone = FileLock.share(folder) { isGone = true }
            Files.removeTree(folder)
        }
        #expect(isDone && isGone)
        guard case .gone = FileLock.share(folder) else {
            Issue.record("taken although it is not there")
            return
        }
    }

    /// Several make directories and clean up others' at once: whoever has the lock of one has the directory too.
    @Test func aLockedDirectoryStaysThere() async throws {
        defer { Files.removeTree(folder) }
        let folder = folder
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<6 {
                group.addTask {
                    for number in 0..<300 {
                        for name in (try? Files.entries(folder)) ?? [] {
                            _ = FileLock.whenUnused("\(folder)/\(name)") { rmdir("\(folder)/\(name)") }
                        }
                        let path = "\(folder)/\(worker)-\(number)"
                        mkdir(path, 0o700)
                        guard case .taken(let lock) = FileLock.share(path) else { continue }
                        sched_yield()
                        withExtendedLifetime(lock) { #expect(Files.isDirectory(path)) }
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}
