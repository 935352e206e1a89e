import Linux

extension HealthCheck {
    /// Label of an image: a command for the container's `/bin/sh -c`.
    package static let label = "org.singularity.health"

    /// The check that an image's labels ask for: its command, and with `.interval`, `.timeout`, `.start-period` and
    /// `.retries` behind the name what differs from the usual.
    /// - Returns: nil where they ask for none, or for something that makes no sense.
    package init?(labels: [UInt8]) {
        guard let command = LabelText.value(of: Self.label, in: labels), !command.isEmpty else { return nil }
        self.init(command: command)
        func time(_ name: String, _ usual: Int) -> Int {
            LabelText.value(of: "\(Self.label).\(name)", in: labels).flatMap(Self.milliseconds).flatMap { $0 > 0 ? $0 : nil } ?? usual
        }
        interval = time("interval", interval)
        timeout = time("timeout", timeout)
        startPeriod = time("start-period", startPeriod)
        if let number = LabelText.value(of: "\(Self.label).retries", in: labels).flatMap({ Int($0) }), number > 0 { retries = number }
    }

    /// The labels that ask for a check of a Docker image.
    package static func labels(of test: [String], interval: Int?, timeout: Int?, startPeriod: Int?, retries: Int?) -> [String: String] {
        let command: String
        switch test.first {
        case "CMD-SHELL" where test.count == 2: command = test[1]
        case "CMD" where test.count > 1: command = test.dropFirst().map(EnvironmentScripts.quoted).joined(separator: " ")
        default: return [:]
        }
        var labels = [label: command]
        // Docker counts nanoseconds, and means the usual by 0.
        for (name, value) in [("interval", interval), ("timeout", timeout), ("start-period", startPeriod)] {
            if let value, value > 0 { labels["\(label).\(name)"] = "\(max(1, value / 1_000_000))ms" }
        }
        if let retries, retries > 0 { labels["\(label).retries"] = String(retries) }
        return labels
    }
}
