let sifCommands: [Command] = []
