import Foundation
import Glibc
import Linux

/// What the last checks of an instance's health have found.
///
/// The container's first process writes it, into a file that was opened for it: what it says is the container's own word,
/// and is read with that in mind.
public struct HealthReport: Codable, Sendable, Equatable {
    public enum State: String, Codable, Sendable {
        /// It has not been well yet.
        case starting
        case healthy
        case unhealthy
    }

    public var state = State.starting
    /// Failures in a row.
    public var failures = 0
    /// Of the last check; 128 and the signal where one ended it, nil before the first.
    public var status: Int32?
    /// Seconds since 1970 at which the last check ended.
    public var time: Int?
    /// The end of what the last check has printed, at most ``outputLimit`` bytes.
    public var output = ""

    static let outputLimit = 2048
    /// All reports have this size, so that one write replaces the last one.
    private static let size = 16384

    public init() {}

    /// Writes it over the last one.
    func write(to file: CInt) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        guard var bytes = try? encoder.encode(self), bytes.count < Self.size else { return }
        bytes.append(contentsOf: [UInt8](repeating: UInt8(ascii: "\n"), count: Self.size - bytes.count))
        bytes.withUnsafeBytes { buffer in
            _ = pwrite(file, buffer.baseAddress, buffer.count, 0)
        }
    }

    /// Reads one that may be written at the same time.
    /// - Returns: nil where there is none.
    init?(path: String) {
        for attempt in 0..<5 {
            if attempt > 0 { usleep(2000) }
            guard let file = try? OwnedDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK),
                let status = try? Files.status(file.rawValue, name: path), status.st_mode & S_IFMT == S_IFREG,
                let bytes = try? Files.read(file, name: path, limit: Self.size), !bytes.isEmpty
            else { return nil }
            guard let report = try? JSONDecoder().decode(HealthReport.self, from: Data(bytes)) else { continue }
            self = report
            return
        }
        return nil
    }
}
