import Glibc
import Linux

exit(Program.run((0..<Int(CommandLine.argc)).compactMap { CommandLine.unsafeArgv[$0].map { RawText.string($0) } }))
