import Glibc
import Linux
import Registry

/// Shows on a terminal how far downloads and compression are.
///
/// `@unchecked Sendable`: the counters are behind ``monitor``.
final class ProgressBar: PullObserver, @unchecked Sendable {
    private let monitor = Monitor()
    private let isShown: Bool
    private let verb: String
    private var total: Int64 = 0
    private var done: Int64 = 0
    private var stored: UInt64 = 0
    private var lastDrawn: UInt64 = 0
    private var isDrawn = false

    /// Nanoseconds between two drawings.
    private static let interval: UInt64 = 100_000_000

    /// - Parameter verb: what is done.
    init(isShown: Bool, verb: String = "download") {
        self.isShown = isShown && isatty(2) != 0
        self.verb = verb
    }

    func willDownload(bytes: Int64) {
        monitor.locked {
            total += bytes
            draw(force: false)
        }
    }

    func downloaded(bytes: Int) {
        monitor.locked {
            done += Int64(bytes)
            draw(force: false)
        }
    }

    /// - Parameter bytes: all that went into the image so far.
    func stored(bytes: UInt64) {
        guard isShown else { return }
        monitor.locked {
            stored = bytes
            draw(force: false)
        }
    }

    func finish() {
        guard isShown else { return }
        monitor.locked {
            if isDrawn { Program.printError("\r\u{1b}[K") }
            isDrawn = false
        }
    }

    private func draw(force: Bool) {
        guard isShown else { return }
        let time = MonotonicClock.nanoseconds
        guard force || time - lastDrawn >= Self.interval else { return }
        lastDrawn = time
        isDrawn = true
        let width = 30
        let filled = total > 0 ? Int(min(1, Double(done) / Double(total)) * Double(width)) : width
        let bar = String(repeating: "=", count: filled) + String(repeating: " ", count: width - filled)
        var text = "\r\u{1b}[K\(verb) [\(bar)] \(ByteCount.text(done)) of \(ByteCount.text(total))"
        if stored > 0 { text += "   compressed \(ByteCount.text(Int64(stored)))" }
        Program.printError(text)
    }
}

/// Sizes for people.
enum ByteCount {
    /// Bytes of a text such as `20G`, `512MiB` or `1000`; nil for anything else.
    static func bytes(_ text: String) -> UInt64? {
        let digits = text.prefix(while: \.isNumber)
        let unit = text.dropFirst(digits.count).lowercased().drop { $0 == " " }
        let shifts: [String: UInt64] = ["": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40]
        var name = String(unit)
        for ending in ["ib", "b"] where name.count > ending.count && name.hasSuffix(ending) { name = String(name.dropLast(ending.count)) }
        guard let number = UInt64(digits), let shift = shifts[name] else { return nil }
        let (value, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
        return overflow ? nil : value
    }

    /// `12.34 MiB`.
    static func text(_ bytes: Int64) -> String {
        if bytes < 1024 { return "\(bytes) B" }
        var value = Double(bytes)
        var unit = 0
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        while value >= 1024 && unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        let hundredths = Int((value * 100).rounded())
        let fraction = hundredths % 100
        return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction) \(units[unit])"
    }
}
