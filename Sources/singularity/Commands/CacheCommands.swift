let cacheCommands: [Command] = []
