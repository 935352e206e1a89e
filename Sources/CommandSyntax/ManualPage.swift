/// Manual pages in man(7) source, made from the command definitions.
public struct ManualPage {
    private let program: ProgramSpec
    private let version: String

    public init(_ program: ProgramSpec, version: String) {
        self.program = program
        self.version = version
    }

    /// File name and content of every page: one for the program, one for each command.
    public var pages: [(name: String, text: String)] {
        [("singularity.1", overview)]
            + program.commands.filter { !$0.isHidden }.map { ("singularity-\($0.name.replacingSpaces).1", page($0)) }
    }

    private var overview: String {
        var out = header("singularity", "run containers without root")
        out += ".SH SYNOPSIS\n.B singularity\n[global options...] command [options...] [arguments...]\n"
        out += ".SH GLOBAL OPTIONS\n" + options(program.globalOptions)
        out += ".SH COMMANDS\n"
        for command in program.commands.filter({ !$0.isHidden }) {
            out += ".TP\n.BR singularity\\-\(Self.escaped(command.name.replacingSpaces)) (1)\n\(Self.escaped(command.summary))\n"
        }
        out +=
            ".SH EXIT STATUS\nThe status of the program in the container; 255 for an error of singularity itself, 1 for a wrong command line.\n"
        return out
    }

    private func page(_ command: CommandSpec) -> String {
        var out = header("singularity-\(command.name.replacingSpaces)", command.summary)
        out += ".SH SYNOPSIS\n.B \(Self.escaped(command.usageLine))\n"
        if !command.details.isEmpty { out += ".SH DESCRIPTION\n" + Self.paragraphs(command.details) }
        if !command.options.isEmpty { out += ".SH OPTIONS\n" + options(command.options) }
        if !command.examples.isEmpty {
            out += ".SH EXAMPLES\n.nf\n" + command.examples.map { Self.escaped($0) + "\n" }.joined() + ".fi\n"
        }
        return out + ".SH SEE ALSO\n.BR singularity (1)\n"
    }

    private func header(_ name: String, _ summary: String) -> String {
        ".TH \"\(name.uppercased())\" 1 \"\" \"singularity \(version)\" \"singularity\"\n.SH NAME\n\(Self.escaped(name)) \\- \(Self.escaped(summary))\n"
    }

    private func options(_ options: [OptionSpec]) -> String {
        options.filter { !$0.isHidden }.sorted { $0.name < $1.name }.map { option in
            let short = option.short.map { "\\fB\\-\($0)\\fR, " } ?? ""
            let value =
                option.valueName.map { name in
                    if case .optionalValue = option.kind { return "[=\\fI\(Self.escaped(name))\\fR]" }
                    return " \\fI\(Self.escaped(name))\\fR"
                } ?? ""
            var text = ".TP\n\(short)\\fB\\-\\-\(Self.escaped(option.name))\\fR\(value)\n\(Self.escaped(option.help))\n"
            if let name = option.environment.first { text += "Environment: SINGULARITY_\(Self.escaped(name)).\n" }
            return text
        }.joined()
    }

    private static func paragraphs(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false).map { $0.isEmpty ? ".PP\n" : escaped(String($0)) + "\n" }
            .joined()
    }

    private static func escaped(_ text: String) -> String {
        var out = ""
        for character in text {
            switch character {
            case "\\": out += "\\e"
            case "-": out += "\\-"
            case "'" where out.isEmpty, "." where out.isEmpty: out += "\\&\(character)"
            default: out.append(character)
            }
        }
        return out
    }
}

extension String {
    var replacingSpaces: String { split(separator: " ").joined(separator: "-") }
}
