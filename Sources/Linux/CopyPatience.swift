import Glibc

/// How long who writes to a file waits for who seems to copy it.
public struct CopyPatience: Sendable {
    /// Milliseconds without reading, after which it is no copy. Within one file system a copy may be a call for two gigabytes, during
    /// which nothing is heard of it.
    private static let silence = 120_000
    /// Bytes a second that a copy makes at least.
    private static let leastSpeed: Int64 = 5_000_000
    /// Milliseconds in all.
    private let longest: Int

    /// - Parameter file: the open file.
    public init(_ file: CInt) {
        let bytes = (try? Files.status(file, name: "image")).map { Int64($0.st_blocks) * 512 } ?? 0
        longest = 60_000 + Int(bytes / (Self.leastSpeed / 1000))
    }

    /// - Parameters: milliseconds of the ``MonotonicClock``.
    public func isOver(since begin: Int, lastRead: Int, now: Int) -> Bool { now - lastRead > Self.silence || now - begin > longest }
}
