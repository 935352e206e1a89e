/// Help on the program, a group or a command.
public struct HelpText {
    private let program: ProgramSpec

    public init(_ program: ProgramSpec) { self.program = program }

    /// - Returns: nil where there is no such command.
    public func text(for name: String?) -> String? {
        guard let name else { return overview }
        if let command = program.command(name) { return text(command) }
        if let group = program.groups.first(where: { $0.name == name }) { return text(group) }
        return nil
    }

    private var overview: String {
        let names = program.commands.filter { !$0.isHidden && !$0.name.contains(" ") }.map { ($0.name, $0.summary) }
        let all = (names + program.groups.map { ($0.name, $0.summary) }).sorted { $0.0 < $1.0 }
        return """

            Containers for people who compute on machines that they don't administer

            Usage:
              singularity [global options...] <command>

            Available Commands:
            \(Self.columns(all))

            Global Options:
            \(Self.options(program.globalOptions + [OptionSpec("version", nil, .flag, "print the version")]))

            Examples:
              $ singularity help <command> [<subcommand>]
              $ singularity pull docker://debian:12
              $ singularity exec debian_12.sif cat /etc/os-release

            """
    }

    private func text(_ group: (name: String, summary: String)) -> String {
        let prefix = group.name.count + 1
        let commands = program.commands(in: group.name).filter { !$0.isHidden }.map { (String($0.name.dropFirst(prefix)), $0.summary) }
        return """
            \(group.summary)

            Usage:
              singularity \(group.name) <command>

            Available Commands:
            \(Self.columns(commands))

            Run 'singularity \(group.name) <command> --help' for more detailed usage information.

            """
    }

    private func text(_ command: CommandSpec) -> String {
        var parts = [command.summary, "Usage:\n  \(command.usageLine)"]
        if !command.details.isEmpty { parts.append("Description:\n" + Self.indent(command.details)) }
        if !command.options.isEmpty { parts.append("Options:\n" + Self.options(command.options)) }
        if !command.examples.isEmpty {
            parts.append("Examples:\n" + command.examples.map { "  $ \($0)" }.joined(separator: "\n"))
        }
        parts.append("Run 'singularity --help' for more detailed usage information.")
        return parts.joined(separator: "\n\n") + "\n"
    }

    /// What a wrong use prints: the options, or just the usage line.
    public func usage(after error: UsageError) -> String {
        guard let command = program.command(error.command) else { return "Run 'singularity --help' for the list of commands.\n" }
        switch error.kind {
        case .option:
            return
                "Options for \(command.name) command:\n\n\(Self.options(command.options))\n\nRun 'singularity \(command.name) --help' for more detailed usage information.\n"
        default: return "Usage:\n  \(command.usageLine)\n\nRun 'singularity \(command.name) --help' for more detailed usage information.\n"
        }
    }

    static func options(_ options: [OptionSpec]) -> String {
        columns(
            options.filter { !$0.isHidden }.sorted { $0.name < $1.name }.map { option in
                let short = option.short.map { "-\($0), " } ?? "    "
                return (short + "--\(option.name)" + option.valueText, option.help)
            })
    }

    private static func columns(_ rows: [(String, String)]) -> String {
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { "  \($0.0)" + String(repeating: " ", count: width - $0.0.count + 2) + $0.1 }.joined(separator: "\n")
    }

    private static func indent(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { $0.isEmpty ? "" : "  \($0)" }.joined(separator: "\n")
    }
}
