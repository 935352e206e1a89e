#!/usr/bin/env python3
"""Runs a command at a terminal of its own, as a person would use it.

terminal.py STEPS COMMAND...      STEPS is JSON: a list of [what, value]
    ["expect", TEXT]    waits until TEXT has been printed
    ["type", TEXT]      types TEXT
    ["pause", SECONDS]  does nothing for so long
    ["size", [R, C]]    changes the window's size
    ["hang up", 0]      closes the terminal
Prints what the terminal has shown, and ends with the command's status (128 and the signal).
"""
import fcntl, json, os, pty, select, signal, struct, sys, termios, time

steps, command = json.loads(sys.argv[1]), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
shown, position = b"", 0


def read(seconds):
    global shown
    if not select.select([terminal], [], [], seconds)[0]:
        return True
    try:
        data = os.read(terminal, 65536)
    except OSError:
        return False
    shown += data
    return bool(data)


for what, value in steps:
    if what == "expect":
        end = time.time() + 20
        while shown.find(value.encode(), position) < 0:
            if time.time() > end or not read(0.1):
                sys.stdout.buffer.write(shown)
                print(f"\n(no {value!r} came)")
                os.kill(child, signal.SIGKILL)
                sys.exit(99)
        position = shown.find(value.encode(), position) + len(value)
    elif what == "type":
        # A person needs a moment too; a shell that has just printed its prompt may throw away what comes at once.
        time.sleep(0.3)
        os.write(terminal, value.encode())
    elif what == "pause":
        time.sleep(value)
    elif what == "size":
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *value, 0, 0))
    elif what == "hang up":
        os.close(terminal)
        terminal = None
end = time.time() + 15
done = 0
while not done:
    if terminal is None or not read(0.1):
        time.sleep(0.05)
    done, status = os.waitpid(child, os.WNOHANG)
    if not done and time.time() > end:
        os.kill(child, signal.SIGKILL)
        print("\n(it did not end)")
        sys.exit(98)
if terminal is not None:
    while select.select([terminal], [], [], 0)[0] and read(0):
        pass
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
