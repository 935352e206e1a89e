import Registry

/// What an image's ENTRYPOINT, CMD and ENV become in a container that runs without a container engine.
package enum OCIScripts {
    /// `env/10-docker2singularity.sh`. Names that a shell cannot have are left out.
    package static func environment(_ variables: [String]) -> String {
        var lines = ["#!/bin/sh"]
        for variable in variables {
            let name = variable.prefix { $0 != "=" }
            guard ShellText.isName(name) else { continue }
            let value = String(variable.dropFirst(name.count + 1))
            if name == "PATH" {
                lines.append("export PATH=\"\(ShellText.escaped(value))\"")
            } else if value.allSatisfy({ !"\\\"`$}'".contains($0) }) {
                lines.append("export \(name)=\"${\(name):-\(value)}\"")
            } else {
                // The default of an expansion cannot hold these characters in a form that all shells read alike.
                lines.append("export \(name)=\(ShellText.quoted(value))")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// First line of a run script made here, by which the launcher knows that it may do without a shell.
    static let marker = "# generated from ENTRYPOINT and CMD"

    /// The run script. Without arguments it runs ENTRYPOINT and CMD; arguments take the place of CMD.
    package static func runscript(entrypoint: [String], command: [String]) -> String {
        func words(_ list: [String]) -> String {
            ShellText.quoted(list.map { "\"\(ShellText.escaped($0))\"" }.joined(separator: " "))
        }
        func literal(_ list: [String]) -> String { list.map(ShellText.quoted).joined(separator: " ") }
        let exact = [entrypoint.isEmpty ? "" : literal(entrypoint), "\"$@\""].filter { !$0.isEmpty }.joined(separator: " ")
        return """
            #!/bin/sh
            \(marker)
            OCI_ENTRYPOINT=\(words(entrypoint))
            OCI_CMD=\(words(command))

            # With arguments taken as they are.
            if [ -n "${APPTAINER_NO_EVAL:-}${SINGULARITY_NO_EVAL:-}" ]; then
                if [ $# -eq 0 ]; then
                    set -- \(literal(command))
                fi
                set -- \(exact)
                [ $# -eq 0 ] && exit 0
                exec "$@"
            fi

            # As users of the peers expect, arguments are evaluated once more.
            OCI_ARGS="$OCI_CMD"
            if [ $# -gt 0 ]; then
                OCI_ARGS=""
                for arg in "$@"; do
                    OCI_ARGS="$OCI_ARGS \\"$arg\\""
                done
            fi
            eval "set -- $OCI_ENTRYPOINT $OCI_ARGS"
            [ $# -eq 0 ] && exit 0
            exec "$@"

            """
    }
}
