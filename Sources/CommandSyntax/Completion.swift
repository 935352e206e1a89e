/// Completion scripts for shells, made from the command definitions.
public struct Completion {
    private let program: ProgramSpec

    public init(_ program: ProgramSpec) { self.program = program }

    public static let shells = ["bash", "zsh", "fish"]

    /// - Returns: nil for a shell that is not in ``shells``.
    public func script(for shell: String) -> String? {
        switch shell {
        case "bash": bash
        case "zsh": "#compdef singularity\nautoload -U +X bashcompinit && bashcompinit\n" + bash
        case "fish": fish
        default: nil
        }
    }

    private var visible: [CommandSpec] { program.commands.filter { !$0.isHidden } }

    private var firstWords: [String] {
        Array(Set(visible.compactMap { $0.name.split(separator: " ").first.map(String.init) }).union(["help"])).sorted()
    }

    private func words(_ options: [OptionSpec]) -> String {
        options.filter { !$0.isHidden }.flatMap { ["--\($0.name)"] + ($0.short.map { ["-\($0)"] } ?? []) }.joined(separator: " ")
    }

    private var bash: String {
        var cases = ""
        for group in program.groups {
            let names = program.commands(in: group.name).map { String($0.name.dropFirst(group.name.count + 1)) }
            cases += "    '\(group.name)') names='\(names.joined(separator: " "))' ;;\n"
        }
        for command in visible { cases += "    '\(command.name)') options='\(words(command.options))' ;;\n" }
        let groups = program.groups.map { "'\($0.name)'" }.joined(separator: "|")
        return """
            _singularity() {
                local current="${COMP_WORDS[COMP_CWORD]}" command='' word names='' options=''
                for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
                    [[ $word == -* ]] && continue
                    case "$command" in
                    '') command="$word" ;;
                    \(groups)) command="$command $word" ;;
                    esac
                done
                case "$command" in
                '') names='\(firstWords.joined(separator: " "))' options='\(words(program.globalOptions))' ;;

            """ + cases + """
                    esac
                    if [[ $current == -* ]]; then
                        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
                    elif [ -n "$names" ]; then
                        mapfile -t COMPREPLY < <(compgen -W "$names" -- "$current")
                    else
                        mapfile -t COMPREPLY < <(compgen -f -- "$current")
                    fi
                }
                complete -o filenames -F _singularity singularity apptainer

                """
    }

    private var fish: String {
        var out = ""
        for word in firstWords where program.command(word) != nil || program.groups.contains(where: { $0.name == word }) {
            let summary = program.command(word)?.summary ?? program.groups.first { $0.name == word }?.summary ?? ""
            out += "complete -c singularity -n __fish_use_subcommand -a '\(word)' -d '\(Self.quoted(summary))'\n"
        }
        for command in visible {
            let parts = command.name.split(separator: " ").map(String.init)
            let condition = parts.map { "__fish_seen_subcommand_from \($0)" }.joined(separator: "; and ")
            if parts.count == 2 {
                out +=
                    "complete -c singularity -n '__fish_seen_subcommand_from \(parts[0])' -a '\(parts[1])' -d '\(Self.quoted(command.summary))'\n"
            }
            for option in command.options where !option.isHidden {
                let short = option.short.map { " -s '\($0)'" } ?? ""
                let value = option.kind == .flag ? "" : " -r"
                out += "complete -c singularity -n '\(condition)' -l '\(option.name)'\(short)\(value) -d '\(Self.quoted(option.help))'\n"
            }
        }
        return out
    }

    private static func quoted(_ text: String) -> String { text.split(separator: "'").joined(separator: "\\'") }
}
