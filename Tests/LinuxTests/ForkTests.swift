import Glibc
import Linux
import Testing

/// Children that end with their parents. What runs in them allocates nothing, as the test runner has threads.
struct ForkTests {
    /// Whether a grandchild goes on whose parent ends before it has said that it wants to end too.
    private func outlives(_ makeGrandchild: (_ goOn: CInt) -> Void) throws -> Bool {
        var ends: [CInt] = [0, 0]
        try #require(pipe(&ends) == 0)
        let (reader, writer) = (ends[0], ends[1])
        let child = try Process.fork {
            makeGrandchild(writer)
            _exit(0)
        }
        close(writer)
        Process.wait(for: child)
        var byte: UInt8 = 0
        defer { close(reader) }
        return read(reader, &byte, 1) == 1
    }

    @Test func aChildEndsThoughItsParentEndedBeforeItAskedForThat() throws {
        let lives = try outlives { writer in
            _ = try? Process.fork {
                usleep(100_000)
                Process.dieWithParent()
                var byte: UInt8 = 1
                write(writer, &byte, 1)
                _exit(0)
            }
        }
        #expect(!lives)
    }

    @Test func aBoundChildEndsWithAParentThatEndsAtOnce() throws {
        let lives = try outlives { writer in
            guard (try? Process.forkBound()) == 0 else { return }
            usleep(100_000)
            var byte: UInt8 = 1
            write(writer, &byte, 1)
            _exit(0)
        }
        #expect(!lives)
    }
}
