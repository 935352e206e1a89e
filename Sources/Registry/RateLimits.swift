import Foundation
import Glibc
import Linux

/// Until when registries want to be left alone, for all processes that share a cache: a limit that one of them has met is not
/// run against by the others.
struct RateLimits: Sendable {
    /// A file for each host, with the time in it.
    private let folder: String

    /// Seconds that are waited at most. A registry that asks for more is said to have refused.
    static let patience = 300

    /// - Parameter folder: of the cache.
    init(cache folder: String) { self.folder = folder + "/limits" }

    /// A host's name and port are no path.
    private func path(_ host: String) -> String? { host.contains("/") || host.hasPrefix(".") || host.isEmpty ? nil : "\(folder)/\(host)" }

    /// Seconds for which a host shall not be asked; nil where it may be.
    func wait(for host: String) -> Int? {
        guard let path = path(host), let text = try? Files.readText(path, limit: 64), let until = Int(text) else { return nil }
        let left = until - time(nil)
        // Another clock, or rubbish, must not stop anybody for ever.
        guard left > 0, left <= Self.patience + 1 else { return nil }
        return left
    }

    /// A host has asked to be left alone. Where that cannot be written down, only this process knows.
    func note(_ host: String, seconds: Int) {
        guard let path = path(host), seconds > 0 else { return }
        try? Files.makeDirectories(folder, mode: 0o700)
        // The clock's second has begun already.
        try? Files.replace(path, with: Array(String(time(nil) + 1 + min(seconds, Self.patience)).utf8), mode: 0o600)
    }

    /// Seconds of a Retry-After header, which has a number or a date (RFC 9110 10.2.3); nil for anything else.
    static func seconds(_ header: String) -> Int? {
        if let number = Int(header) { return number }
        let format = DateFormatter()
        format.locale = Locale(identifier: "en_US_POSIX")
        format.timeZone = TimeZone(secondsFromGMT: 0)
        format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        guard let date = format.date(from: header) else { return nil }
        return max(0, Int(date.timeIntervalSince1970) - time(nil))
    }
}
