/// The image's environment scripts and how the plan's variables are joined to theirs.
package struct EnvironmentScripts {
    /// Name and text of each file of `/.singularity.d/env`, in the order in which they are sourced.
    package var files: [(name: String, text: String)]
    package var plan: EnvironmentPlan
    /// Working directory of the program.
    package var workingDirectory: String

    /// Scripts whose meaning is known, and which are not run from the image.
    private static let known: Set<String> = ["99-base.sh", "99-runtimevars.sh"]

    /// All variables, where the scripts are simple enough to need no shell.
    package init(files: [(name: String, text: String)], plan: EnvironmentPlan, workingDirectory: String) {
        self.files = files
        self.plan = plan
        self.workingDirectory = workingDirectory
    }

    package func evaluate() throws(ShellSubset.NotSimple) -> [String: String] {
        if !plan.app.isEmpty { throw ShellSubset.NotSimple() }
        var shell = ShellSubset(Dictionary(plan.initial.map { ($0.name, $0.value) }) { _, new in new })
        shell.variables["PWD"] = workingDirectory
        for (name, text) in files where !Self.known.contains(name) {
            if name == "90-environment.sh", shell.variables["PATH"] == nil { shell.variables["PATH"] = EnvironmentPlan.defaultPath }
            // Without --app the apps' own script does nothing.
            if name == "95-apps.sh" { continue }
            try shell.source(text)
            if name.hasPrefix("10-docker") { shell.variables["PATH"] = Self.completed(shell.variables["PATH"]) }
        }
        if shell.variables["PATH"] == nil { shell.variables["PATH"] = EnvironmentPlan.defaultPath }
        let libraries = shell.variables["LD_LIBRARY_PATH"].map { $0.isEmpty ? "" : $0 + ":" } ?? ""
        shell.variables["LD_LIBRARY_PATH"] = libraries + EnvironmentPlan.libraries
        if shell.variables["PS1"]?.isEmpty ?? true { shell.variables["PS1"] = EnvironmentPlan.prompt }
        for variable in plan.injected {
            var value = plan.evaluates ? try shell.expand(quoted: Self.quotable(variable.value)) : variable.value
            if variable.name == "LD_LIBRARY_PATH" { value += ":" + EnvironmentPlan.libraries }
            shell.variables[variable.name] = value
        }
        try applyPath(&shell)
        for variable in plan.inherited where shell.variables[variable.name] == nil {
            shell.variables[variable.name] = variable.value
        }
        let prompt = shell.variables["PS1"] ?? EnvironmentPlan.prompt
        shell.variables["PROMPT_COMMAND"] = "PS1=\"\(prompt)\"; unset PROMPT_COMMAND"
        return shell.variables
    }

    private func applyPath(_ shell: inout ShellSubset) throws(ShellSubset.NotSimple) {
        func value(_ text: String) throws(ShellSubset.NotSimple) -> String {
            plan.evaluates ? try shell.expand(quoted: Self.quotable(text)) : text
        }
        var path = shell.variables["PATH"] ?? EnvironmentPlan.defaultPath
        if let text = plan.prependPath { path = try value(text) + ":" + path }
        if let text = plan.appendPath { path += ":" + (try value(text)) }
        if let text = plan.path { path = try value(text) }
        shell.variables["PATH"] = path
    }

    /// A double quote in a value is one of the value's characters.
    private static func quotable(_ text: String) -> String {
        text.contains("\"") ? text.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"") : text
    }

    /// A PATH with the default directories that it lacks behind it.
    static func completed(_ path: String?) -> String {
        guard let path, !path.isEmpty else { return EnvironmentPlan.defaultPath }
        let there = Set(path.split(separator: ":"))
        return ([Substring(path)] + EnvironmentPlan.defaultPath.split(separator: ":").filter { !there.contains($0) }).joined(separator: ":")
    }

    // MARK: For a real shell

    /// A script for the container's /bin/sh that does the same as ``evaluate()`` and then becomes the program, and the
    /// variables that it needs.
    package func script() -> (text: String, values: [(name: String, value: String)]) {
        var lines: [String] = []
        var values: [(name: String, value: String)] = []
        /// A value by reference: it may be longer than a script may be.
        func reference(_ text: String) -> String {
            if text.utf8.count < 1024 { return Self.quoted(text) }
            let name = "_SINGULARITY_VALUE_\(values.count)"
            values.append((name, text))
            return "\"$\(name)\""
        }
        /// A value that is evaluated as the inside of double quotes.
        func evaluated(_ text: String) -> String {
            plan.evaluates ? "\"\(Self.quotable(text))\"" : reference(text)
        }
        for variable in plan.initial { lines.append("\(variable.name)=\(reference(variable.value)); export \(variable.name)") }
        lines.append("PWD=\(Self.quoted(workingDirectory)); export PWD")
        for (name, _) in files where !Self.known.contains(name) {
            if name == "90-environment.sh" { lines.append("PATH=\"${PATH:-\(EnvironmentPlan.defaultPath)}\"; export PATH") }
            lines.append(". /.singularity.d/env/\(name)")
            if name.hasPrefix("10-docker") {
                for folder in EnvironmentPlan.defaultPath.split(separator: ":") {
                    lines.append("case \":${PATH:-}:\" in *:\(folder):*) ;; *) PATH=\"${PATH:+$PATH:}\(folder)\" ;; esac")
                }
            }
        }
        lines.append("PATH=\"${PATH:-\(EnvironmentPlan.defaultPath)}\"")
        lines.append("LD_LIBRARY_PATH=\"${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}\(EnvironmentPlan.libraries)\"")
        lines.append("PS1=\"${PS1:-\(EnvironmentPlan.prompt)}\"")
        lines.append("export PATH LD_LIBRARY_PATH PS1")
        for variable in plan.injected {
            let suffix = variable.name == "LD_LIBRARY_PATH" ? ":" + EnvironmentPlan.libraries : ""
            if plan.evaluates && variable.value.utf8.count >= 1024 {
                // eval takes no copy through a pipe, which would lose newlines at the end.
                let name = "_SINGULARITY_VALUE_\(values.count)"
                values.append((name, "\(variable.name)=\"\(Self.quotable(variable.value))\"\(suffix)"))
                lines.append("eval \"$\(name)\"; export \(variable.name)")
            } else {
                lines.append("export \(variable.name)=\(evaluated(variable.value))\(suffix)")
            }
        }
        if let text = plan.prependPath { lines.append("PATH=\(evaluated(text)):\"$PATH\"") }
        if let text = plan.appendPath { lines.append("PATH=\"$PATH\":\(evaluated(text))") }
        if let text = plan.path { lines.append("PATH=\(evaluated(text))") }
        for variable in plan.inherited {
            lines.append("[ -n \"${\(variable.name)+x}\" ] || export \(variable.name)=\(reference(variable.value))")
        }
        lines.append("PROMPT_COMMAND=\"PS1=\\\"$PS1\\\"; unset PROMPT_COMMAND\"; export PROMPT_COMMAND")
        for (name, _) in values { lines.append("unset \(name)") }
        return (lines.joined(separator: "\n") + "\n", values)
    }

    static func quoted(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\"'\"'") + "'"
    }
}
