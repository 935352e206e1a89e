import CommandSyntax
import Testing

@Suite struct ParserTests {
    private let program = ProgramSpec(
        globalOptions: [OptionSpec("quiet", "q", .flag, "quiet")],
        commands: [
            CommandSpec(
                "exec", arguments: "<image> <command>", summary: "Run",
                options: [
                    OptionSpec("bind", "B", .array("spec"), "bind"), OptionSpec("clean", "e", .flag, "clean"),
                    OptionSpec("scratch", "S", .list("d"), "scratch"),
                    OptionSpec("cwd", nil, .value("path"), "directory", aliases: ["pwd"]), OptionSpec("contain", "c", .flag, "contain"),
                ], argumentCount: 2...Int.max, stopsAtFirstArgument: true),
            CommandSpec("sif list", arguments: "<file>", summary: "List", argumentCount: 1...1),
        ], groups: [("sif", "SIF")])

    private func parse(_ line: String) throws -> ParsedArguments {
        guard case .command(_, let parsed, _) = try CommandLineParser(program).parse(line.split(separator: " ").map(String.init)) else {
            Issue.record("no command in \(line)")
            return ParsedArguments()
        }
        return parsed
    }

    @Test func optionsHaveAllTheirSpellings() throws {
        let parsed = try parse("exec -ec -B /a,b -B/c --bind=/d --pwd /x -S 1,2 image command -e --bind z")
        #expect(parsed.has("clean") && parsed.has("contain"))
        #expect(parsed.all("bind") == ["/a,b", "/c", "/d"])
        #expect(parsed["cwd"] == "/x")
        #expect(parsed.all("scratch") == ["1", "2"])
        #expect(parsed.arguments == ["image", "command", "-e", "--bind", "z"])
        #expect(try parse("exec --clean=false i c").has("clean") == false)
        #expect(try parse("-q sif list f").arguments == ["f"])
    }

    @Test(arguments: [
        "exec i", "exec --unknown i c", "exec --bind", "exec -x i c", "sif list", "sif list a b", "sif lost a", "exce i c",
        "exec --clean=maybe i c",
    ])
    func mistakesAreErrors(_ line: String) {
        #expect(throws: UsageError.self) { try parse(line) }
    }

    @Test func helpPagesAndCompletionsNameEverything() throws {
        let help = try #require(HelpText(program).text(for: "exec"))
        for name in ["--bind", "--clean", "--scratch", "--cwd", "-B"] { #expect(help.contains(name), "\(name)") }
        let pages = ManualPage(program, version: "1").pages
        #expect(pages.contains { $0.name == "singularity-exec.1" && $0.text.contains("\\-\\-bind") || $0.text.contains("bind") })
        for shell in Completion.shells { #expect(try #require(Completion(program).script(for: shell)).contains("exec")) }
    }
}
