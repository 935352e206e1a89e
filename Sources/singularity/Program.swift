import Build
import CommandSyntax
import Glibc
import Linux
import Messages

/// Parses the command line and calls the command.
enum Program {
    static let spec = ProgramSpec(
        globalOptions: GlobalOptions.options, commands: Command.all.map(\.spec),
        groups: [
            ("sif", "Work on the objects of SIF files"), ("cache", "List and clean the cache of downloads"),
            ("instance", "Containers that run in the background"), ("overlay", "Writable partitions and overlay files"),
            ("data", "Data containers"), ("key", "OpenPGP keys: keyrings and key servers"), ("registry", "Logins to registries"),
            ("recipient", "Who can open encrypted images"),
            ("explain", "Whether images and hosts fit"), ("sbom", "What is installed in images"),
            ("config", "Read and change the configuration"),
            ("capability", "What root's containers may do"),
        ])

    /// - Returns: the exit status.
    static func run(_ words: [String]) -> Int32 {
        let name = words.first?.split(separator: "/").last.map(String.init) ?? "singularity"
        var arguments = Array(words.dropFirst())
        // The launch script of a SIF names this program `run-singularity`.
        if name == "run-singularity" { arguments.insert("run", at: 0) }
        do throws(UsageError) {
            switch try CommandLineParser(spec).parse(arguments) {
            case .version:
                print("\(name == "apptainer" ? "apptainer" : "singularity") version \(ProgramVersion.text)")
                return 0
            case .help(let topic): return help(topic)
            case .nothing:
                printError(HelpText(spec).text(for: nil) ?? "")
                return 1
            case .command(let command, let parsed, let globals):
                ConfigurationFile.given = globals["config"]
                return call(command, parsed, GlobalOptions.log(globals))
            }
        } catch {
            printError("Error for command \"\(error.command)\": \(error.message)\n\n\(HelpText(spec).usage(after: error))")
            return 1
        }
    }

    private static func help(_ topic: String?) -> Int32 {
        guard let text = HelpText(spec).text(for: topic) else {
            printError("Error: there is no command \"\(topic ?? "")\"; run 'singularity --help' for the list\n")
            return 1
        }
        print(text, terminator: "")
        return 0
    }

    private static func call(_ spec: CommandSpec, _ parsed: ParsedArguments, _ log: Log) -> Int32 {
        guard let command = Command.all.first(where: { $0.spec.name == spec.name }) else { return 1 }
        do { return try command.run(parsed, log) } catch let error as ReportedFailure {
            printError(
                "Error for command \"\(spec.name)\": \(error.message)\n\n\(HelpText(Self.spec).usage(after: UsageError(command: spec.name, message: "", kind: .arguments)))"
            )
            return 1
        } catch {
            log.fatal("\(error)")
            return 255
        }
    }

    static func printError(_ text: String) { try? Files.writeAll(Array(text.utf8), to: 2, name: "standard error") }
}

/// A command: its definition and what it does.
struct Command: Sendable {
    let spec: CommandSpec
    /// - Returns: the exit status.
    let run: @Sendable (ParsedArguments, Log) throws -> Int32

    static let all: [Command] =
        [
            execCommand, runCommand, shellCommand, testCommand, runHelpCommand, buildCommand, pullCommand, pushCommand, inspectCommand,
            diffCommand,
        ]
        + commitCommands + instanceCommands + overlayCommands + dataCommands + sifCommands + cacheCommands + configCommands
        + capabilityCommands + keyCommands + registryCommands + recipientCommands + materialsCommands + [
            signCommand, verifyCommand, doctorCommand, explainMPICommand, hostRunCommand, versionCommand, completionCommand, manualCommand,
        ]
}

/// An error that the peers report with status 1 and the usage.
struct ReportedFailure: Error {
    let message: String
}

/// An error with a sentence of its own.
struct CommandError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

enum GlobalOptions {
    static let options = [
        OptionSpec("build-config", nil, .flag, "accepted", hidden: true),
        OptionSpec("config", "c", .value("path"), "configuration file to use instead of the system's and the user's"),
        OptionSpec("debug", "d", .flag, "print everything that is done", environment: ["DEBUG"]),
        OptionSpec("nocolor", nil, .flag, "print without colour", environment: ["NOCOLOR"]),
        OptionSpec("quiet", "q", .flag, "print warnings and errors only", environment: ["QUIET"]),
        OptionSpec("silent", "s", .flag, "print errors only", environment: ["SILENT"]),
        OptionSpec("verbose", "v", .flag, "print more", environment: ["VERBOSE"]),
    ]

    static func log(_ globals: ParsedArguments) -> Log {
        var level = Log.Level.info
        if let number = Environment.setting("MESSAGELEVEL").flatMap({ Int($0) }) {
            level = number >= 5 ? .debug : number >= 2 ? .verbose : number >= 1 ? .info : number >= -2 ? .warning : .error
        }
        if globals.has("verbose") { level = .verbose }
        if globals.has("debug") { level = .debug }
        if globals.has("quiet") { level = .warning }
        if globals.has("silent") { level = .error }
        return Log(level: level, usesColour: isatty(2) != 0 && !globals.has("nocolor"))
    }
}
