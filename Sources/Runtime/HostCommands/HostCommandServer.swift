import CLinux
import Glibc
import Linux

/// The process on the host that runs the scheduler's commands for the programs of one container.
struct HostCommandServer {
    private let process: pid_t
    private let place: HostCommands.Place

    /// Starts it. Nothing of the host must have been left yet; only for a process with one thread, which stays as long as the
    /// container does.
    init(_ commands: HostCommands) throws(RuntimeError) {
        guard let place = HostCommands.Place(getpid()) else {
            throw .badOption("--scheduler: there is no directory for sockets that belongs to this user; set XDG_RUNTIME_DIR to one")
        }
        self.place = place
        // Of a process that had the same number, and was killed.
        unlink(place.socket)
        do throws(SystemError) {
            let listening = OwnedDescriptor(clinux_local_socket(place.socket, 1))
            guard listening.rawValue >= 0 else { throw .last("listen at \(place.socket)") }
            try Files.replace(place.script, with: Array(HostCommands.script.utf8), mode: 0o755)
            let parent = OwnedDescriptor(clinux_pidfd_open(getpid()))
            let (socket, life) = (listening.rawValue, parent.rawValue)
            process = try Process.fork {
                KeeperProcess.begin("singularity-run", for: nil)
                Process.closeDescriptors(except: [socket, life])
                Self.serve(socket, life, commands, place)
            }
        } catch {
            place.clear()
            throw .step("--scheduler: starting the server", error, hint: "")
        }
    }

    /// Ends it, when the container has ended.
    func end() {
        kill(process, SIGKILL)
        Process.wait(for: process)
        place.clear()
    }

    // MARK: The server

    private static func serve(_ listening: CInt, _ life: CInt, _ commands: HostCommands, _ place: HostCommands.Place) -> Never {
        // Nobody waits for those that answer.
        signal(SIGCHLD, SIG_IGN)
        var watched = [
            pollfd(fd: listening, events: Int16(POLLIN), revents: 0), pollfd(fd: life, events: Int16(POLLIN), revents: 0),
        ]
        while true {
            guard poll(&watched, 2, -1) > 0 else { continue }
            if watched[1].revents != 0 {
                place.clear()
                _exit(0)
            }
            let client = clinux_accept(listening)
            guard client >= 0 else { continue }
            if KeeperSocket.isOwn(client) {
                // It outlives this process for as long as its command takes to end.
                _ = try? Process.fork {
                    close(listening)
                    close(life)
                    answer(client, commands)
                }
            }
            close(client)
        }
    }

    /// Milliseconds between SIGTERM and SIGKILL for the command of a program that is gone.
    private static let grace: CInt = 10_000

    private static func answer(_ client: CInt, _ commands: HostCommands) -> Never {
        signal(SIGCHLD, SIG_DFL)
        _ = clinux_set_receive_timeout(client, 5000)
        var standard: [CInt] = [-1, -1, -1]
        guard clinux_receive_descriptors(client, &standard, 3) == 3, let request = receive(client) else { _exit(1) }
        guard let path = commands.paths[request.name] else { end(client, 127 << 8) }
        var pairs: [(name: String, value: String)] = []
        for text in request.variables {
            if let equals = text.firstIndex(of: "=") { pairs.append((String(text[..<equals]), String(text[text.index(after: equals)...]))) }
        }
        let variables = HostCommands.environment(host: commands.environment, container: pairs)
        let child = try? Process.fork {
            Process.dieWithParent(by: SIGTERM)
            setpgid(0, 0)
            become(path, request, variables, standard)
        }
        guard let child else { end(client, 126 << 8) }
        for descriptor in standard { close(descriptor) }
        let ended = clinux_pidfd_open(child)
        var watched = [pollfd(fd: client, events: Int16(POLLIN), revents: 0), pollfd(fd: ended, events: Int16(POLLIN), revents: 0)]
        var patience: CInt = -1
        while true {
            let count = poll(&watched, 2, patience)
            if count == 0 { kill(-child, SIGKILL) }
            guard count > 0 else { continue }
            if watched[1].revents != 0 { end(client, Process.wait(for: child)) }
            guard watched[0].revents != 0 else { continue }
            var number: UInt8 = 0
            if retryingOnInterrupt({ read(client, &number, 1) }) == 1 {
                kill(-child, CInt(number))
            } else {
                // Whoever has asked is gone. A scheduler's command takes its job back when it is asked to end.
                kill(-child, SIGTERM)
                watched[0].fd = -1
                patience = grace
            }
        }
    }

    private static func receive(_ client: CInt) -> HostRequest? {
        var size: UInt32 = 0
        guard recv(client, &size, 4, CInt(MSG_WAITALL)) == 4 else { return nil }
        let count = Int(UInt32(littleEndian: size))
        guard count <= HostRequest.largest else { return nil }
        var bytes = [UInt8](repeating: 0, count: count)
        guard recv(client, &bytes, count, CInt(MSG_WAITALL)) == count else { return nil }
        return HostRequest(bytes)
    }

    /// - Parameter status: as wait(2) has it.
    private static func end(_ client: CInt, _ status: CInt) -> Never {
        var status = status.littleEndian
        _ = send(client, &status, 4, CInt(MSG_NOSIGNAL))
        _exit(0)
    }

    private static func become(_ path: String, _ request: HostRequest, _ variables: [(name: String, value: String)], _ standard: [CInt])
        -> Never
    {
        for number in 1...64 as ClosedRange<CInt> where number != SIGKILL && number != SIGSTOP { signal(number, SIG_DFL) }
        for (number, descriptor) in standard.enumerated() { dup2(descriptor, CInt(number)) }
        // The container may have directories that the host has not.
        let home = variables.first { $0.name == "HOME" }?.value ?? "/"
        if chdir(request.workingDirectory) != 0, chdir(home) != 0 { _ = chdir("/") }
        var argv = ([path] + request.arguments).map { Optional(RawText.copy($0)) } + [nil]
        var envp = variables.map { Optional(RawText.copy("\($0.name)=\($0.value)")) } + [nil]
        execve(path, &argv, &envp)
        let text = "\(path): \(SystemError.last("").reason)\n"
        try? Files.writeAll(Array(text.utf8), to: 2, name: "standard error")
        _exit(126)
    }
}
