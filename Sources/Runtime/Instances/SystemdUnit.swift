/// A unit of systemd's user manager that keeps an instance running, see systemd.service(5).
public struct SystemdUnit {
    public let text: String

    /// - Parameter program: absolute path.
    public init(_ record: InstanceRecord, _ settings: InstanceRecord.Settings, program: String) {
        let start = ([program] + Self.withoutPIDFile(settings.command)).map(Self.quoted).joined(separator: " ")
        let stop = [program, "instance", "stop", record.name].map(Self.quoted).joined(separator: " ")
        text = """
            [Unit]
            Description=Instance \(record.name) of \(Self.literal(record.image))
            Wants=network-online.target
            After=network-online.target

            [Service]
            Type=forking
            WorkingDirectory=\(Self.literal(settings.workingDirectory))
            ExecStart=\(start)
            ExecStop=\(stop)
            Restart=on-failure
            RestartSec=1
            KillMode=mixed

            [Install]
            WantedBy=default.target

            """
    }

    private static func withoutPIDFile(_ words: [String]) -> [String] {
        var out: [String] = []
        var skips = false
        for word in words {
            if skips {
                skips = false
            } else if word == "--pid-file" {
                skips = true
            } else if !word.hasPrefix("--pid-file=") {
                out.append(word)
            }
        }
        return out
    }

    /// `%` begins a specifier everywhere.
    private static func literal(_ text: String) -> String {
        text.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "%%")
            .split(separator: "\n", omittingEmptySubsequences: false).joined(separator: " ")
    }

    /// Quotes and escapes of systemd.service(5), "Command lines"; a dollar sign is doubled.
    private static func quoted(_ word: String) -> String {
        var out = ""
        for scalar in word.unicodeScalars {
            switch scalar {
            case "\\": out += "\\\\"
            case "\"": out += "\\\""
            case "\n": out += "\\n"
            case "\t": out += "\\t"
            case "%": out += "%%"
            case "$": out += "$$"
            default: out.unicodeScalars.append(scalar)
            }
        }
        let isPlain =
            !out.isEmpty
            && out.utf8.allSatisfy { ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7a || ($0 >= 0x2b && $0 <= 0x3a) || $0 == 0x3d || $0 == 0x5f }
        return isPlain ? out : "\"\(out)\""
    }
}
