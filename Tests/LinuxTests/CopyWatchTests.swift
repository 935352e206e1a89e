import Foundation
import Linux
import Testing

final class CopyWatchTests {
    private let path = NSTemporaryDirectory() + "singularity-watch.\(UUID().uuidString)"
    private let file: OwnedDescriptor
    private let watch: CopyWatch
    private var others: [Foundation.Process] = []

    init() throws {
        file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT, mode: 0o600)
        watch = CopyWatch(file.rawValue)
    }

    deinit {
        others.forEach(end)
        unlink(path)
    }

    /// Runs a shell script, with the file's path as `$1`, up to the line that it prints.
    private func run(_ script: String) throws -> Foundation.Process {
        let shell = Foundation.Process()
        let output = Pipe()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = ["-c", script + "; echo done; exec sleep 60", "sh", path]
        shell.standardOutput = output
        try shell.run()
        others.append(shell)
        _ = output.fileHandleForReading.availableData
        return shell
    }

    private func end(_ shell: Foundation.Process) {
        kill(shell.processIdentifier, SIGKILL)
        shell.waitUntilExit()
    }

    @Test func whoHasItOpenMayCopyIt() throws {
        #expect(!watch.isBeingCopied)
        let first = try run(#"exec 3< "$1""#)
        #expect(watch.isBeingCopied)
        let second = try run(#"exec 3< "$1""#)
        end(first)
        #expect(watch.isBeingCopied)
        end(second)
        #expect(!watch.isBeingCopied)
    }

    @Test func whoHasClosedItDoesNot() throws {
        _ = try run(#"exec 3< "$1" 3<&-"#)
        #expect(!watch.isBeingCopied)
        // Both openings and the end of the first one come as one event.
        let again = try run(#"exec 3< "$1" 3<&- 3< "$1""#)
        #expect(watch.isBeingCopied)
        end(again)
        #expect(!watch.isBeingCopied)
    }

    /// A file that others had open before, as that of an image which a container runs: who opens it anew is seen nevertheless.
    @Test func openingsAreCountedWhereOthersHaveItOpenAnyway() throws {
        let holder = try run(#"exec 3< "$1""#)
        let other = try OwnedDescriptor.open(path, O_RDWR)
        let watch = CopyWatch(other.rawValue)
        #expect(!watch.isBeingCopied)
        let copier = try run(#"exec 3< "$1""#)
        #expect(watch.isBeingCopied)
        end(copier)
        #expect(!watch.isBeingCopied)
        end(holder)
    }

    @Test func whatThisProcessDoesIsNoCopy() throws {
        let again = try OwnedDescriptor.open(path)
        #expect(!watch.isBeingCopied)
        _ = again
    }

    @Test func waitingEndsWithTheCopy() throws {
        _ = try run(#"(exec 3< "$1"; sleep 0.3; exec 3<&-) & sleep 0.1"#)
        #expect(watch.isBeingCopied)
        watch.wait()
        #expect(!watch.isBeingCopied)
    }

    @Test func patienceHasAnEnd() {
        #expect(ftruncate(file.rawValue, 1 << 30) == 0)
        let patience = CopyPatience(file.rawValue)
        #expect(!patience.isOver(since: 0, lastRead: 0, now: 59_000))
        #expect(patience.isOver(since: 0, lastRead: 60_500, now: 61_000))
        #expect(patience.isOver(since: 100_000, lastRead: 0, now: 121_000))
    }
}
