import CommandSyntax
let doctorCommand = Command(spec: CommandSpec("doctor", arguments: "", summary: "", argumentCount: 0...0)) { _, _ in 0 }
