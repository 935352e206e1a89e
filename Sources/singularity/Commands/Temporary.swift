import CommandSyntax
let execCommand = Command(spec: CommandSpec("exec", arguments: "", summary: "", argumentCount: 0...0)) { _, _ in 0 }
let runCommand = Command(spec: CommandSpec("run", arguments: "", summary: "", argumentCount: 0...0)) { _, _ in 0 }
let shellCommand = Command(spec: CommandSpec("shell", arguments: "", summary: "", argumentCount: 0...0)) { _, _ in 0 }
let testCommand = Command(spec: CommandSpec("test", arguments: "", summary: "", argumentCount: 0...0)) { _, _ in 0 }
let sifCommands: [Command] = []
let cacheCommands: [Command] = []
let doctorCommand = Command(spec: CommandSpec("doctor", arguments: "", summary: "", argumentCount: 0...0)) { _, _ in 0 }
