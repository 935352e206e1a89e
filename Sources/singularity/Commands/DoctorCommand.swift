import CommandSyntax
import Linux
import Runtime

let doctorCommand = Command(
    spec: CommandSpec(
        "doctor", arguments: "", summary: "Tell what this host refuses, and the remedy",
        details: """
            Tries out what running a container needs: user namespaces, FUSE, overlays. For each thing that is refused it \
            names the setting, and what the administrator and what the user can do. The exit status is 1 where containers \
            cannot run at all.
            """,
        examples: ["singularity doctor"],
        options: [OptionSpec("json", "j", .flag, "print JSON")], argumentCount: 0...0)
) { parsed, _ in
    let findings = HostCheck().run()
    if parsed.has("json") {
        print(DoctorReport.json(findings), terminator: "")
    } else {
        print(DoctorReport.text(findings), terminator: "")
    }
    return findings.contains { $0.verdict == .refused } ? 1 : 0
}

/// Findings as text.
private enum DoctorReport {
    static func text(_ findings: [HostCheck.Finding]) -> String {
        findings.map { finding in
            let verdict = finding.verdict.rawValue
            let head = verdict + String(repeating: " ", count: max(1, 10 - verdict.count)) + finding.subject + ": " + finding.detail + "\n"
            return head + finding.remedies.map { "          \($0)\n" }.joined()
        }.joined()
    }

    static func json(_ findings: [HostCheck.Finding]) -> String {
        let objects = findings.map { finding in
            let remedies = finding.remedies.map(quoted).joined(separator: ", ")
            return
                "  {\"subject\": \(quoted(finding.subject)), \"verdict\": \(quoted(finding.verdict.rawValue)), \"detail\": \(quoted(finding.detail)), \"remedies\": [\(remedies)]}"
        }
        return "[\n" + objects.joined(separator: ",\n") + "\n]\n"
    }

    /// RFC 8259, section 7.
    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case let control where control.value < 0x20:
                let digits = String(control.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}
