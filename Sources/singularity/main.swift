import CommandSyntax
import Glibc
import Linux
import Messages

// A reader of our output that goes away is an error of the write, not the end of the program.
signal(SIGPIPE, SIG_IGN)
exit(Program.run(CommandLine.arguments))
