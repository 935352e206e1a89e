import CommandSyntax
import Messages
import Runtime

let explainMPICommand = Command(
    spec: CommandSpec(
        "explain mpi", arguments: "<image>", summary: "Tell whether an image's MPI fits what starts jobs here",
        details: """
            Looks for MPI in the image and on the host, for what launchers tell ranks of each other by (PMI-1, PMI-2, PMIx), \
            and for fast networks, and says what fits. Within a job it is about that job's launcher. Nothing of the image is \
            run. The exit status is 1 where each rank would be a job of its own.
            """,
        examples: ["singularity explain mpi simulation.sif", "srun --mpi=pmix -n 2 singularity explain mpi simulation.sif"],
        options: [OptionSpec("json", "j", .flag, "print JSON")] + EncryptionOptions.opening + ImageFetching.options, argumentCount: 1...1)
) { parsed, log in
    let image = try RunnableImage.path(of: parsed.arguments[0], parsed, log)
    let report = try MPIReport(image: image, keys: EncryptionOptions.keys(parsed), .current())
    if parsed.has("json") {
        let strings = { (values: [String]) in JSONValue.array(values.map(JSONValue.string)) }
        print(
            JSONValue.object([
                ("found", .object(report.lines.map { ($0.subject, .string($0.text)) })), ("problems", strings(report.problems)),
                ("notes", strings(report.notes)), ("advice", report.advice.map(JSONValue.string) ?? .null),
            ]).indented)
    } else {
        let width = (report.lines.map(\.subject.count).max() ?? 0) + 2
        func line(_ subject: String, _ text: String) {
            print(subject + String(repeating: " ", count: max(1, width - subject.count)) + text)
        }
        for one in report.lines { line(one.subject, one.text) }
        for problem in report.problems { line("problem", problem) }
        for note in report.notes { line("note", note) }
        line("verdict", report.problems.isEmpty ? "fits" + (report.advice.map { ": " + $0 } ?? "") : "does not fit")
    }
    return report.problems.isEmpty ? 0 : 1
}
