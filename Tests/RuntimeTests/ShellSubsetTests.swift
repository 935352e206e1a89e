import Foundation
import Runtime
import Testing

@Suite struct ShellSubsetTests {
    /// What the real shell makes of a script.
    private func shell(_ script: String, _ variables: [String: String]) throws -> [String: String] {
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-c", "\(script)\n/usr/bin/env -0"]
        process.environment = variables
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let bytes = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        var out: [String: String] = [:]
        for entry in bytes.split(separator: 0) {
            let text = String(decoding: entry, as: UTF8.self)
            guard let equals = text.firstIndex(of: "=") else { continue }
            out[String(text[..<equals])] = String(text[text.index(after: equals)...])
        }
        for name in ["_", "PWD", "SHLVL", "OLDPWD"] { out[name] = nil }
        return out
    }

    @Test(arguments: [
        "export A=1", "export A=\"x y\" B='$HOME'", "A=$HOME/x; export A", "export A=\"${A:-default}\"", "export A=\"${HOME:-default}\"",
        "export A=\"${EMPTY:-e}${EMPTY-f}\"", "export A=a\\ b", "export A=\"quote \\\" dollar \\$ back \\\\ other \\n\"", "unset HOME",
        "# comment\nexport A=1 # trailing\n\nexport B=2", "export A='it'\"'\"'s'", "export PATH=\"/opt:$PATH\"", "export A=\"line\nbreak\"",
        "export A=${HOME}x$HOME", "export A=\"${UNSET}\"", "export A=~x", "export A=1;export B=$A$A", "export A=\"a'b\"", ":",
        "export A=\"${A:+set}\" B=\"${HOME:+set}\"",
    ]) func agreesWithTheShell(_ script: String) throws {
        let variables = ["HOME": "/home/me", "EMPTY": "", "PATH": "/usr/bin:/bin"]
        var subset = ShellSubset(variables)
        do { try subset.source(script) } catch {
            // To say "not simple" is always right; a real shell does it then.
            return
        }
        #expect(subset.variables == (try shell(script, variables)))
    }

    @Test(arguments: [
        "export A=$(id)", "export A=`id`", "if true; then export A=1; fi", "A=1 command", "export A=$((1+1))", "for x in 1; do :; done",
        "echo hi", ". /file",
        "export A=${A%%x}", "case x in x) ;; esac", "export A=\"unfinished", "f() { :; }", "export A=1 && export B=2", "export A=1 | cat",
        "export A=<x", "eval x=1",
    ]) func whatIsNotSimpleIsSaidToBeSo(_ script: String) {
        var subset = ShellSubset(["HOME": "/h"])
        #expect(throws: ShellSubset.NotSimple.self) { try subset.source(script) }
        #expect(subset.variables == ["HOME": "/h"])
    }
}
