import Build
import CommandSyntax
import Linux
import Messages
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
            JSONValue.object([
                ("subject", .string(finding.subject)), ("verdict", .string(finding.verdict.rawValue)),
                ("detail", .string(finding.detail)), ("remedies", .array(finding.remedies.map(JSONValue.string))),
            ])
        }
        return JSONValue.array(objects).indented + "\n"
    }
}
