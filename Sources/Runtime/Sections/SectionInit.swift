import CLinux
import Glibc
import Linux
import Messages

/// The first process of a section: starts the script, answers for the kernel where owners are recorded, collects what
/// loses its parent, and ends all that the script has left.
struct SectionInit {
    let run: SectionRun
    let log: Log

    /// Ends with the script's status.
    /// - Parameter records: gets the owners of files that can have no attribute.
    func run(records: CInt) throws -> Never {
        Process.setName("sinit")
        let children = OwnedDescriptor(clinux_child_signals())
        guard children.rawValue >= 0 else { throw SystemError.last("signalfd") }
        var sockets: [CInt] = [0, 0]
        guard clinux_socket_pair(&sockets) == 0 else { throw SystemError.last("socketpair") }
        let asksKernel = run.identity != .root
        if run.identity == .recorded, clinux_prepare_tags() != 0 { throw SystemError.last("set the limit of message queues") }
        let script = try Process.fork {
            close(sockets[0])
            becomeScript(asksKernel ? sockets[1] : -1)
        }
        close(sockets[1])
        var listener: CInt = -1
        if asksKernel {
            listener = clinux_receive_descriptor(sockets[0])
            // With ranges only devices are lost without it.
            guard listener >= 0 || run.identity != .recorded else {
                Process.wait(for: script)
                throw RuntimeError.step(
                    "watching system calls", SystemError("install a seccomp filter", errno: EACCES),
                    hint: "the build needs seccomp user notification (Linux 5.9 or newer), which this host or container engine refuses")
            }
            if listener >= 0 {
                clinux_notify_stay_on_processor(listener)
            } else {
                log.verbose("devices cannot be made: no seccomp notification")
            }
        }
        close(sockets[0])
        // What is not the program's own: it must not get our terminal's signals in our place.
        for number in [SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP, SIGPIPE] { signal(number, SIG_IGN) }
        let emulation = OwnerEmulation()
        if run.place == .container, let status = Files.status(run.scriptPath) { emulation.upperDevice = UInt64(status.st_dev) }
        let status = serve(listener, children.rawValue, script, emulation)
        // What the script has left in the background ends with it.
        if getpid() == 1 { kill(-1, SIGKILL) }
        run.packages?.remove()
        OwnerList.write(emulation.othersOfLayer, to: records)
        _exit(Process.exitCode(status))
    }

    private func serve(_ listener: CInt, _ children: CInt, _ script: pid_t, _ emulation: OwnerEmulation) -> CInt {
        var watched = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0), pollfd(fd: children, events: Int16(POLLIN), revents: 0)]
        while true {
            guard poll(&watched, 2, -1) > 0 else { continue }
            if watched[0].revents & Int16(POLLIN) != 0 { emulation.answerNext(listener) }
            // Nobody is left who could ask.
            if watched[0].revents & Int16(POLLHUP) != 0 { watched[0].fd = -1 }
            guard watched[1].revents != 0 else { continue }
            var room = [UInt8](repeating: 0, count: 1024)
            _ = read(children, &room, room.count)
            while true {
                var status: CInt = 0
                let ended = waitpid(-1, &status, WNOHANG)
                if ended == script { return status }
                if ended <= 0 { break }
            }
        }
    }

    /// - Parameter socket: takes the listener; negative where nobody listens.
    private func becomeScript(_ socket: CInt) -> Never {
        var none = sigset_t()
        sigemptyset(&none)
        sigprocmask(SIG_SETMASK, &none, nil)
        signal(SIGPIPE, SIG_DFL)
        if let output = run.output {
            dup2(output.output, 1)
            dup2(output.errors, 2)
            let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
            if null >= 0, isatty(0) == 0 || run.place == .container { dup2(null, 0) }
        }
        umask(0o022)
        if run.place == .container { _ = chdir("/") }
        if socket >= 0 {
            let listener = clinux_notify_install(run.identity == .recorded ? 1 : 0)
            let isWatched = listener >= 0 && clinux_send_descriptor(socket, listener) == 0
            if !isWatched && run.identity == .recorded { _exit(255) }
            if listener >= 0 { close(listener) }
            close(socket)
        }
        var argv = run.program.map { strdup($0) } + [nil]
        var envp = run.environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        execve(run.program[0], &argv, &envp)
        let error = SystemError.last("run \(run.program[0])")
        log.fatal(
            error.errno == ENOENT
                ? "the container has no \(run.program[0]), which its sections need: \(error)" : "\(error)")
        _exit(255)
    }
}
