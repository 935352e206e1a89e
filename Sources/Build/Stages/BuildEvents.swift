import Glibc
import Linux
import Messages

/// Tells programs how far a build is: a JSON object a line on standard output (`--json`).
///
/// Members: `event` (`section` or `target`), `state` (`started`, `cached`, `done`, `failed`), and what it is about.
struct BuildEvents: Sendable {
    let isOn: Bool
    /// Name of the stage; empty where it has none.
    var stage = ""

    func section(_ title: String, line: Int, state: String, seconds: Double? = nil, bytes: UInt64? = nil) {
        var members: [(key: String, value: JSONValue)] = [
            ("event", .string("section")), ("stage", .string(stage)), ("section", .string(title)), ("line", .number(line)),
            ("state", .string(state)),
        ]
        if let seconds { members.append(("milliseconds", .number(Int(seconds * 1000)))) }
        if let bytes { members.append(("bytes", .number(Int(clamping: bytes)))) }
        say(members)
    }

    func target(_ path: String, state: String) {
        say([("event", .string("target")), ("path", .string(path)), ("state", .string(state))])
    }

    private func say(_ members: [(key: String, value: JSONValue)]) {
        guard isOn else { return }
        try? Files.writeAll(Array((JSONValue.object(members).compact + "\n").utf8), to: 1, name: "standard output")
    }

    /// Seconds of a clock that only goes forward.
    static var now: Double { Double(MonotonicClock.nanoseconds) / 1e9 }
}
